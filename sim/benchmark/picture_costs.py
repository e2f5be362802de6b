"""What cameras cost: pictures to features, the tick of a bundle that sees, its memory, and large messages; no training.

See `qgf benchmark cameras`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition

from qgf_ros.benchmark.random_bundle import NetworkShape, write_seeing_bundle
from qgf_ros.benchmark.ros_latency import distribution
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest, read_bundle
from qgf_ros.control.vision.decoding import decode
from qgf_ros.control.vision.synthetic_pictures import synthetic_picture
from qgf_ros.errors import SimulationError
from qgf_ros.reports.machine import LoadMeter, describe_machine
from qgf_ros.runtime.encoders import OnnxEncoder
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.session import CPU
from qgf_sim.benchmark.large_messages import CAMERAS
from qgf_sim.benchmark.processor import processor_time, resident_memory
from qgf_sim.benchmark.ros import RosPlan, start_subject
from qgf_sim.benchmark.ros import measure as measure_loop
from qgf_sim.benchmark.stand_in import PICTURES, StandIn
from qgf_sim.benchmark.transports import TRANSPORTS, measure_transports
from qgf_sim.processes import Child, environment, private_graph, stop_all

SCHEMA = 1
#: Sizes of the networks of the bundle with two cameras: those of the shipped bundles.
SHAPE = NetworkShape(layers=3, width=256, observation=7, action=5, horizon=5)
#: At which memory is looked at [Hz], and how long it may settle: the share of the readings at the beginning that is left out.
MEMORY_RATE, SETTLING = 30, 0.2
#: Deadline of the inference there [s]: what it takes is measured elsewhere, and a busy machine is to change nothing.
PATIENCE = 1.0
#: Inferences over which calls of encoders are counted, and their candidates.
INFERENCES, CANDIDATES = 20, 4


@dataclass(frozen=True)
class CamerasPlan:
    """What to measure.

    Attributes:
        bundle: Folder of the bundle whose tick is measured; None for the random one with two cameras.
        rate: Observations a second of that [Hz].
        frames: Times that two pictures become features, after a tenth as many that are not counted.
        rounds, ticks: Turns of the tick, and the observations in each.
        minutes: How long memory is looked at.
        seconds: How long pictures are sent over each transport; 0 for none.
        threads: Of each ONNX Runtime operator of the node.
    """

    bundle: Path | None = None
    rate: int = 20
    frames: int = 1000
    rounds: int = 10
    ticks: int = 100
    minutes: float = 10.0
    seconds: float = 10.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("rate", "frames", "rounds", "ticks", "minutes", "threads"):
            if getattr(self, name) <= 0:
                raise SimulationError(f"{name} {getattr(self, name)} was given; it must be above 0")

    @property
    def steps(self) -> int:
        """How often `measure` tells of its progress."""
        return 3 + (2 + self.rounds) + self.readings + (len(TRANSPORTS) if self.seconds > 0 else 0)

    @property
    def readings(self) -> int:
        """How often memory is looked at: every second, but ten times at least."""
        return max(10, round(60 * self.minutes))


def measure(plan: CamerasPlan, progress: Callable[[str], None] = lambda note: None) -> dict[str, Any]:
    """Measure all of it; no process is left behind, however it ends. Call it on the main thread.

    Args:
        plan: What to measure.
        progress: Called `CamerasPlan.steps` times.

    Returns:
        ``machine``, ``load`` (cores that others kept busy before), ``plan``, ``pictures`` (by how JPEG is decoded), ``calls``,
        ``loop``, ``memory`` and ``transports``.

    Raises:
        BundleError: The bundle is missing or damaged.
        SimulationError: The bundle has no cameras, or a process does not start or does not answer.
    """
    meter = LoadMeter()
    time.sleep(1.0)
    load = meter.cores()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two = folder / "two"
        manifest = write_seeing_bundle(two, CAMERAS["jpeg"], SHAPE, MEMORY_RATE)
        asked = two if plan.bundle is None else plan.bundle
        if not load_manifest(asked).cameras:
            raise SimulationError(f"{asked} has no cameras; give a bundle that sees, or none")
        pictures = {}
        for way in ("full", "reduced"):
            pictures[way] = measure_pictures(two, manifest, way, plan.frames)
            progress(f"pictures, {way}")
        calls = count_calls(two)
        progress("calls of the encoder")
        loop_plan = RosPlan(asked, (plan.rate,), rounds=plan.rounds, ticks=plan.ticks, threads=plan.threads)
        loop = measure_loop(loop_plan, progress)["results"]
        memory = watch_node(two, manifest, plan, folder, progress)
    return {
        "schema": SCHEMA,
        "machine": describe_machine(plan.threads),
        "load": {"before": load},
        "plan": {**vars(plan), "bundle": "random-seeing" if plan.bundle is None else plan.bundle.name},
        "pictures": pictures,
        "calls": calls,
        "loop": loop,
        "memory": memory,
        "transports": measure_transports(plan.seconds, progress) if plan.seconds > 0 else [],
        "largest_socket_buffer": _largest_buffer(),
    }


def measure_pictures(bundle: Path, manifest: Manifest, way: str, frames: int) -> dict[str, Any]:
    """Return how long a picture of each camera takes to become features, on one thread: ``decode_ms``, ``encode_ms``, ``ms``.

    Args:
        bundle: Of which the encoder is.
        manifest: Its manifest.
        way: How JPEG is decoded, as in `CameraField`.
        frames: How often.
    """
    cameras = {name: camera.model_copy(update={"decode": way}) for name, camera in manifest.cameras.items()}
    encoder = OnnxEncoder(read_bundle(bundle)[1], None, (CPU,), 1)
    state = np.zeros((1, manifest.observation_size), dtype=np.float32)
    random = np.random.default_rng(0)
    sent = {name: [synthetic_picture(camera, random) for _ in range(PICTURES)] for name, camera in cameras.items()}
    times = np.empty((frames + frames // 10, 3))
    for number, row in enumerate(times):
        row[0] = time.perf_counter()
        images = {
            name: decode(name, camera, sent[name][number % len(sent[name])])[None] for name, camera in cameras.items()
        }
        row[1] = time.perf_counter()
        encoder(images, state)
        row[2] = time.perf_counter()
    counted = times[frames // 10 :]
    return {
        "pictures": len(cameras),
        "bytes": float(np.mean([len(reading.data) for readings in sent.values() for reading in readings])),
        "decode_ms": distribution((counted[:, 1] - counted[:, 0]).tolist()),
        "encode_ms": distribution((counted[:, 2] - counted[:, 1]).tolist()),
        "ms": distribution((counted[:, 2] - counted[:, 0]).tolist()),
    }


def count_calls(bundle: Path) -> dict[str, Any]:
    """Return how often each encoder of a bundle runs in some inferences with a critic, several candidates and T steps."""
    policy = Policy.load(bundle)
    manifest = policy.manifest
    random = np.random.default_rng(0)
    images = {
        name: random.integers(0, 256, (1, *camera.size, 3), dtype=np.uint8) for name, camera in manifest.cameras.items()
    }
    state = np.zeros((1, manifest.observation_size), dtype=np.float32)
    size = manifest.horizon * manifest.action_size
    for _ in range(INFERENCES):
        noise = random.standard_normal((1, CANDIDATES, size), dtype=np.float32)
        policy.act(state, noise, next(iter(manifest.critics)), 1.0, images=images)
    counted = {critic: one for critic, one in policy.encoders.items() if isinstance(one, OnnxEncoder)}
    return {
        "inferences": INFERENCES,
        "denoising_steps": manifest.denoising_steps,
        "candidates": CANDIDATES,
        "calls": {critic or "policy": one.calls for critic, one in counted.items()},
    }


def watch_node(
    bundle: Path, manifest: Manifest, plan: CamerasPlan, folder: Path, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Return what cameras at 30 Hz do to the memory of the policy node, which infers at each picture.

    ``resident_mb`` has a reading for every second, ``start_mb`` and ``end_mb`` are the medians of the first and the last tenth
    after settling, and ``slope_mb_per_minute`` is that of a line through all of these.
    """
    place = folder / "memory"
    place.mkdir()
    graph = private_graph(place)
    children: list[Child] = []
    stand_in = StandIn(graph, manifest.observation, manifest.cameras)
    try:
        with environment(graph):
            ros = RosPlan(bundle, threads=plan.threads)
            children.append(start_subject("node", manifest, bundle, ros, place, inference_deadline=PATIENCE))
        node = children[0]
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            stand_in.change_state(transition)
        stand_in.wait_for_answer()
        times, resident, answered, asked = [], [], 0, 0
        began, processor = time.monotonic(), processor_time(node.pid)
        for number in range(plan.readings):
            due = began + (number + 1) * 60.0 * plan.minutes / plan.readings
            while (left := due - time.monotonic()) > 0.0:
                exchanges = stand_in.exchange(MEMORY_RATE, max(1, round(min(left, 1.0) * MEMORY_RATE)), settle=False)
                asked += len(exchanges)
                answered += sum(one.published == one.published for one in exchanges)  # not NaN
            times.append(time.monotonic() - began)
            resident.append(resident_memory(node.pid) / 1e6)
            progress("memory of the node")
        cores = (processor_time(node.pid) - processor) / (time.monotonic() - began)
    finally:
        stand_in.close()
        stop_all(children)
    settled = max(1, round(SETTLING * len(resident)))
    kept, tenth = resident[settled:], max(1, len(resident) // 10)
    slope = float(np.polyfit(np.array(times[settled:]) / 60.0, kept, 1)[0])
    return {
        "minutes": plan.minutes,
        "observations": asked,
        "answered": answered,
        "cores": cores,
        "seconds": times,
        "resident_mb": resident,
        "start_mb": float(np.median(kept[:tenth])),
        "end_mb": float(np.median(kept[-tenth:])),
        "slope_mb_per_minute": slope,
    }


def _largest_buffer() -> int | None:
    """Return how large the kernel lets a socket's buffer be [bytes], which larger ones over UDP are cut to."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
