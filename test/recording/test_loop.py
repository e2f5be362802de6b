"""The whole loop over DDS: a simulated session is recorded, replayed to the bit, converted and trained on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

import rclpy
from rclpy.context import Context

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.recording.recording import Recording
from qgf_sim.live import conductor as conductor_module
from qgf_sim.live.conductor import BRIDGE, NODE, Conductor
from qgf_sim.processes import Child, environment, private_graph, stop_all

PATIENCE = 120.0
MODULES = {"recorder": "qgf_ros.nodes.recorder", NODE: "qgf_ros.nodes.policy_node", BRIDGE: "qgf_sim.bridge.node"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bool]]:
    """A recording of two episodes of the shipped bundle in lockstep, and their outcomes."""
    folder = tmp_path_factory.mktemp("session")
    patch = pytest.MonkeyPatch()
    patch.setattr(conductor_module, "SILENCE_TIMEOUT", PATIENCE)  # for a machine that is busy with something else
    bundle = locate_bundle("cube-single")
    out = folder / "run.mcap"
    parameters: dict[str, dict[str, object]] = {
        "recorder": {"bundle": str(bundle), "out": str(out)},
        NODE: {
            "bundle": str(bundle),
            "trigger": "observation",
            "observation_reliability": "reliable",
            "use_sim_time": True,
            "autostart": True,
            "enable_motion": True,
        },
        BRIDGE: {"environment": "cube-single", "task": 2, "autostart": False, "auto_reset": False},
    }
    children: list[Child] = []
    context = Context()
    with environment(private_graph(folder)):
        try:
            for name, values in parameters.items():
                pairs = [word for key, value in values.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
                children.append(Child(name, MODULES[name], ["--ros-args", *pairs], folder))
            rclpy.init(args=[], context=context)
            conductor = Conductor(load_manifest(bundle), 2, children, context)
            conductor.connect()
            log = children[0].log
            end = time.monotonic() + PATIENCE
            while not all(
                f"recording /{topic}, " in log.read_text()
                for topic in ("joint_states", "command", "policy_node/telemetry")
            ):
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            outcomes = [conductor.run_episode(0.04, seed, lambda text: None).success for seed in (20_000, 20_001)]
            children[0].signal_group(signal.SIGINT)
            while children[0].exit_code is None:
                assert time.monotonic() < end + PATIENCE, log.read_text()
                time.sleep(0.05)
            assert children[0].exit_code == 0, log.read_text()
            conductor.close()
        finally:
            stop_all(children)
            context.try_shutdown()
            patch.undo()
    return out, outcomes


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
