"""The whole loop over DDS: a simulated session is recorded, replayed to the bit, converted and trained on.

A robot that sees does the same with its pictures, and what was trained runs. Where no pictures can be drawn, the bridge plays
a small data set whose pictures need no renderer.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

import numpy as np
import rclpy
from camera_bundles import write_camera_bundle
from rclpy.context import Context

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.results import Episode
from qgf_ros.learning.data.dataset import load_dataset
from qgf_ros.recording.recording import Recording
from qgf_sim.live import conductor as conductor_module
from qgf_sim.live.conductor import BRIDGE, NODE, Conductor
from qgf_sim.processes import Child, environment, private_graph, stop_all
from qgf_sim.worlds.families import CAMERA, PICTURE_SIDE, ROBOT_SIZE, action_fields, camera_fields, observation_fields
from qgf_sim.worlds.rendering import check_drawing

PATIENCE = 120.0
MODULES = {"recorder": "qgf_ros.nodes.recorder", NODE: "qgf_ros.nodes.policy_node", BRIDGE: "qgf_sim.bridge.node"}
SEEING = "visual-cube-single"


def run_session(
    folder: Path,
    bundle: Path,
    robot: dict[str, object],
    seeds: Sequence[int],
    critic: str = "",
    out: Path | None = None,
) -> list[Episode]:
    """Return how some episodes of task 2 went in lockstep, after recording them.

    Args:
        folder: For the logs of the processes.
        bundle: What the node runs.
        robot: Parameters of the bridge.
        seeds: Of the episodes.
        critic: The guiding one; that of the task by default.
        out: The recording; None for none.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr(conductor_module, "SILENCE_TIMEOUT", PATIENCE)  # for a machine that is busy with something else
    manifest = load_manifest(bundle)
    parameters: dict[str, dict[str, object]] = {
        **({"recorder": {"bundle": str(bundle), "out": str(out)}} if out else {}),
        NODE: {
            "bundle": str(bundle),
            "trigger": "observation",
            "observation_reliability": "reliable",
            "use_sim_time": True,
            "autostart": True,
            "enable_motion": True,
        },
        BRIDGE: {"task": 2, "autostart": False, "auto_reset": False, **robot},
    }
    children: list[Child] = []
    context = Context()
    with environment(private_graph(folder)):
        try:
            for name, values in parameters.items():
                pairs = [word for key, value in values.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
                children.append(Child(name, MODULES[name], ["--ros-args", *pairs], folder))
            rclpy.init(args=[], context=context)
            conductor = Conductor(manifest, 2, children, context, critic=critic)
            conductor.connect()
            if out:
                topics = [camera.topic for camera in manifest.cameras.values()]
                until_recorded(children[0], "joint_states", "command", "policy_node/telemetry", *topics)
            episodes = [conductor.run_episode(0.04, seed, lambda text: None) for seed in seeds]
            if out:
                end_recording(children[0])
            conductor.close()
        finally:
            stop_all(children)
            context.try_shutdown()
            patch.undo()
    return episodes


def until_recorded(recorder: Child, *topics: str) -> None:
    end = time.monotonic() + PATIENCE
    while not all(f"recording /{topic}, " in recorder.log.read_text() for topic in topics):
        assert time.monotonic() < end, recorder.log.read_text()
        time.sleep(0.05)


def end_recording(recorder: Child) -> None:
    end = time.monotonic() + PATIENCE
    recorder.signal_group(signal.SIGINT)
    while recorder.exit_code is None:
        assert time.monotonic() < end, recorder.log.read_text()
        time.sleep(0.05)
    assert recorder.exit_code == 0, recorder.log.read_text()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bool]]:
    """A recording of two episodes of the shipped bundle, and their outcomes."""
    folder = tmp_path_factory.mktemp("session")
    out, robot = folder / "run.mcap", {"environment": "cube-single"}
    episodes = run_session(folder, locate_bundle("cube-single"), robot, (20_000, 20_001), out=out)
    return out, [episode.success for episode in episodes]


@pytest.mark.slow
def test_a_lockstep_session_is_replayed_to_the_bit(session: tuple[Path, list[bool]], tmp_path: Path) -> None:
    path, _ = session
    recording = Recording.open(path)
    assert recording.damage == []
    assert recording.dropped == 0
    assert recording.topics["/sim_bridge/episode"][1] == 2
    report = tmp_path / "replay.json"
    assert main(["replay", str(path), "--bundle", "cube-single", "--json", str(report)]) == 0
    outcome = json.loads(report.read_text())
    assert outcome["different"] == 0
    assert outcome["not_replayed"] == {}
    assert outcome["identical"] == recording.topics["/policy_node/telemetry"][1] > 60
    assert (
        main(
            ["replay", str(path), "--bundle", "cube-single", "--guidance-weight", "0", "--json", str(report), "--force"]
        )
        == 0
    )
    outcome = json.loads(report.read_text())
    assert outcome["different"] > 0.9 * outcome["ticks"]
    assert list(outcome["causes"]) == ["guidance_weight 0.04 → 0.0"]


def without_mean(field: ObservationField) -> ObservationField:
    """Return a field without what follows from its own data."""
    return field.model_copy(update={"mean_quaternion": None, "sign_follows": False})


@pytest.mark.slow
def test_a_recorded_session_becomes_a_bundle(session: tuple[Path, list[bool]], tmp_path: Path) -> None:
    path, outcomes = session
    assert any(outcomes), "neither episode was solved"
    data, run, bundle = tmp_path / "session.npz", tmp_path / "run", tmp_path / "mine"
    contract = locate_bundle("cube-single") / "manifest.json"
    assert main(["dataset", "from-bag", str(path), "--bundle", "cube-single", "--out", str(data)]) == 0
    training = ["train", "--dataset", str(data), "--contract", str(contract), "--smoke", "--threads", "1"]
    assert main([*training, "--out", str(run)]) == 0
    assert main(["export", str(run), "--out", str(bundle)]) == 0
    manifest = load_manifest(bundle)
    shipped = load_manifest(locate_bundle("cube-single"))
    signed = [without_mean(field) for field in manifest.observation], manifest.action
    assert signed == ([without_mean(field) for field in shipped.observation], shipped.action)
    assert manifest.demonstrations is not None
    assert manifest.demonstrations.dataset == "session.npz"


def drawn_without_a_renderer(path: Path, rows: int = 15) -> Path:
    """Write two trajectories of the arm standing still, whose camera sees a square that moves and the noise of a sensor."""
    random = np.random.default_rng(0)
    pictures = random.integers(40, 60, (2 * rows, PICTURE_SIDE, PICTURE_SIDE, 3), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        picture[20:28, row % 50 : row % 50 + 8] = (250, 20, 20)
    np.savez(
        path,
        observations=np.zeros((2 * rows, ROBOT_SIZE), np.float32),
        actions=random.uniform(-1.0, 1.0, (2 * rows, 5)).astype(np.float32),
        terminals=np.arange(2 * rows) % rows == rows - 1,
        **{f"images/{CAMERA}": pictures},  # type: ignore[arg-type]
    )
    return path


@pytest.mark.parametrize("kind", [pytest.param("simulated", marks=pytest.mark.slow), "renderer-free"])
def test_a_recorded_session_of_a_robot_that_sees_becomes_a_bundle_that_runs(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("cv2", reason="pictures need the camera extra")
    robot: dict[str, object] = {"environment": SEEING}
    if kind == "simulated":
        try:
            check_drawing()
        except SimulationError as error:
            pytest.skip(str(error))
    else:
        robot |= {"mode": "replay", "replay_file": str(drawn_without_a_renderer(tmp_path / "scene.npz"))}
    fields = {"observation": observation_fields(SEEING), "action": action_fields(), "environment": SEEING}
    first = write_camera_bundle(tmp_path / "first", camera_fields(SEEING), {"push": None}, horizon=2, **fields)
    path = tmp_path / "run.mcap"
    (before,) = run_session(tmp_path, first, robot, (0,), "push", path)

    data, run, bundle = tmp_path / "session.npz", tmp_path / "run", tmp_path / "mine"
    assert main(["dataset", "from-bag", str(path), "--bundle", str(first), "--out", str(data)]) == 0
    seen = load_dataset(data).pictures
    assert seen is not None
    assert seen.sizes == {CAMERA: (PICTURE_SIDE, PICTURE_SIDE)}
    pictures = seen.opened(tmp_path).take(np.arange(before.length - 1))[CAMERA]
    assert len({picture.tobytes() for picture in pictures}) > 0.9 * len(pictures)  # each row has its own
    training = ["train", "--dataset", str(data), "--contract", str(first / "manifest.json"), "--critic", "push"]
    assert main([*training, "--out", str(run), "--smoke", "--threads", "1", "--critic-encoder", "own"]) == 0
    assert main(["export", str(run), "--out", str(bundle)]) == 0

    (after,) = run_session(tmp_path, bundle, robot, (0,), "push")
    assert after.length == before.length
    assert len(after.values) > 0.9 * after.length
    assert np.isfinite(after.values).all()  # the critic saw, through its own encoder, at every inference
