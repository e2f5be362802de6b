"""What a simulator on ROS 2 is expected to do, over real DDS: steps, speed, keyframes, frames, and domain shifts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the bridge needs the ros extra")
pytest.importorskip("ogbench", reason="the bridge needs the sim extra")

import yaml
from bridge_peer import OWN, PERIOD, Bridge, Commander, feedback, in_process, own_bridges, ros_graph, same_bits
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from qgf_sim.bridge import frames
from qgf_sim.bridge.bridge_parameters import PARAMETERS
from qgf_sim.bridge.frames import TFMessage, transforms
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.shift import NONE, Shift

ROOT = Path(__file__).resolve().parents[3]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module", autouse=True)
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ros_graph(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """One lockstep bridge; episodes start on ~/reset alone."""
    running = Bridge(tmp_path_factory.mktemp("bridge") / "log", auto_reset=False, autostart=False)
    yield running
    assert running.stop() == 0


@pytest.fixture
def commander(bridge: Bridge) -> Iterator[Commander]:
    node = Commander()
    yield node
    node.set(**vars(NONE), keyframe="", steps=1)
    node.close()


SHIFTS = {
    "sensors and actuators": Shift(
        observation_noise=0.01, observation_delay=2, observation_dropout=0.1, action_delay=1
    ),
    "physics": Shift(friction_factor=0.5, mass_factor=2.0, size_factor=1.2),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shifted_episode_over_the_bridge_is_that_without_ros(commander: Commander, name: str) -> None:
    shift = SHIFTS[name]
    commander.reset(task=2, seed=11, **vars(shift))
    for _ in range(20):
        commander.step(feedback(commander.vectors[-1]))
    assert same_bits(commander.vectors, in_process(2, 11, 20, shift=shift))
    assert not same_bits(commander.vectors[:1], in_process(2, 11, 0))
    gaps = np.diff(commander.stamps) // PERIOD
    assert (gaps.max() > 1) == (shift.observation_dropout > 0.0), "a step without an observation takes its time"


def test_a_shift_takes_effect_at_the_next_reset_and_ends_with_it(commander: Commander) -> None:
    commander.reset(task=2, seed=3)
    assert all(result.successful for result in commander.set(observation_noise=0.1))
    commander.step(np.zeros(5))
    assert same_bits(commander.vectors, in_process(2, 3, 1, lambda _: np.zeros(5)))
    commander.reset()
    assert same_bits(commander.vectors, in_process(2, 3, 0, shift=Shift(observation_noise=0.1)))
    commander.reset(observation_noise=0.0)
    assert same_bits(commander.vectors, in_process(2, 3, 0))


def test_the_outcome_tells_shift_and_keyframe(commander: Commander) -> None:
    commander.reset(task=1, seed=44, keyframe="home", observation_dropout=0.9)

    def found() -> list[dict[str, Any]]:
        # Most steps lack an observation and are done at once; the others are answered.
        commander.send(np.zeros(5), commander.stamps[-1])
        return [outcome for outcome in commander.outcomes if outcome["seed"] == 44]

    commander.until(found)
    (outcome,) = found()
    assert (outcome["keyframe"], outcome["shift"]) == ("home", {"observation_dropout": 0.9})


@pytest.mark.parametrize(("name", "value"), [("observation_dropout", 1.0), ("mass_factor", 0.0), ("action_delay", -1)])
def test_a_shift_out_of_range_is_refused(commander: Commander, name: str, value: Any) -> None:
    (result,) = commander.set(**{name: value})
    assert not result.successful and name in result.reason


def test_an_episode_begins_in_a_keyframe_and_an_unknown_one_is_refused(commander: Commander) -> None:
    commander.reset(task=1, seed=2, keyframe="home")
    assert same_bits(commander.vectors, in_process(1, 2, 0, keyframe="home"))
    commander.set(keyframe="away")
    refused = commander.call(Trigger, "reset", Trigger.Request())
    assert not refused.success
    assert "empty or one of home" in refused.message


def test_step_does_as_many_control_steps_as_asked_and_then_stands(commander: Commander) -> None:
    commander.reset(task=1, seed=1, steps=3)
    assert commander.call(SetBool, "pause", SetBool.Request(data=True)).success
    granted = commander.call(Trigger, "step", Trigger.Request())
    assert granted.success and "3" in granted.message
    for _ in range(3):
        commander.step(feedback(commander.vectors[-1]))
    commander.send(feedback(commander.vectors[-1]), commander.stamps[-1])
    clocks = len(commander.clock)
    commander.until(lambda: len(commander.clock) > clocks + 1)  # half a second of standing still
    assert same_bits(commander.vectors, in_process(1, 1, 3))
    assert commander.call(SetBool, "pause", SetBool.Request(data=False)).success
    commander.until(lambda: len(commander.stamps) == 5)


def test_the_robot_description_is_there_for_a_latecomer_with_the_joints_of_the_joint_states(
    commander: Commander,
) -> None:
    commander.reset(task=1, seed=1)
    descriptions: list[String] = []
    joint_states: list[JointState] = []
    node = commander.node
    node.create_subscription(String, "robot_description", descriptions.append, LATCHED)
    node.create_subscription(JointState, "joint_states", joint_states.append, 10)
    commander.until(lambda: descriptions and joint_states)
    joints = {joint.get("name") for joint in ET.fromstring(descriptions[0].data).iter("joint")}
    assert set(joint_states[0].name) <= joints


def test_frames_of_arm_objects_and_camera_hang_on_the_world_and_agree_with_the_poses() -> None:
    env = TaskEnvironment("cube-double", 1)
    readings = env.reset(0)
    found = {
        message.child_frame_id: message for message in transforms(env.unwrapped.model, env.unwrapped.data, 7 * PERIOD)
    }
    assert all(message.header.stamp.nanosec == 7 * PERIOD for message in found.values())

    def in_world(name: str) -> np.ndarray:
        transform = np.eye(4)
        while name != "world":
            message = found[name]
            t, q = message.transform.translation, message.transform.rotation
            step = np.eye(4)
            step[:3, 3] = t.x, t.y, t.z
            step[:3, :3] = matrix(q.w, q.x, q.y, q.z)
            transform, name = step @ transform, message.header.frame_id
        return transform

    for frame, topic in (("effector", "effector_pose"), ("object_0", "object_0_pose"), ("object_1", "object_1_pose")):
        pose = readings[topic]
        np.testing.assert_allclose(in_world(frame)[:3, 3], pose.position, atol=1e-9)
        x, y, z, w = pose.quaternion_xyzw
        np.testing.assert_allclose(in_world(frame)[:3, :3], matrix(w, x, y, z), atol=1e-9)
    camera = in_world("camera_optical_frame")
    scene = np.array([0.4, 0.0, 0.0]) - camera[:3, 3]
    assert camera[:3, 2] @ scene / np.linalg.norm(scene) > 0.9, "z of an optical frame looks at the scene"
    assert camera[2, 1] < 0.0, "its y points down"
    env.close()


def matrix(w: float, x: float, y: float, z: float) -> np.ndarray:
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


class Ear:
    """A publisher that keeps what it is given, and as many listeners as a test likes."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.listeners = 0

    def publish(self, message: Any) -> None:
        self.heard.append(message)

    def get_subscription_count(self) -> int:
        return self.listeners


def test_the_description_goes_out_once_and_frames_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the message, which is no wheel."""
    monkeypatch.setattr(frames, "TFMessage", SimpleNamespace)
    ears = {"robot_description": Ear(), "/tf": Ear()}
    publisher = frames.FramePublisher(SimpleNamespace(create_publisher=lambda kind, topic, quality: ears[topic]))
    publisher.publish(None, 1)  # a recording
    assert not ears["robot_description"].heard
    env = TaskEnvironment("cube-single", 1)
    env.reset(0)
    physics = (env.unwrapped.model, env.unwrapped.data)
    publisher.publish(physics, 1)
    assert not ears["/tf"].heard
    ears["/tf"].listeners = 1
    publisher.publish(physics, 2)
    (message,) = ears["/tf"].heard
    assert message.transforms == frames.transforms(*physics, 2)
    assert len(ears["robot_description"].heard) == 1
    env.close()


@pytest.mark.skipif(TFMessage is None, reason="tf2_msgs is no wheel; it comes with a ROS 2 installation")
def test_frames_are_on_tf_with_the_stamp_of_the_observation(commander: Commander) -> None:
    commander.reset(task=1, seed=1)
    heard: list[Any] = []
    commander.node.create_subscription(TFMessage, "/tf", heard.append, 10)
    commander.until(lambda: heard)
    stamps = {t.header.stamp.sec * 10**9 + t.header.stamp.nanosec for t in heard[-1].transforms}
    assert stamps == {commander.stamps[-1]}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bridge]]:
    """Starts a bridge of the test's own, in a namespace of its own, and ends it with the test."""
    with own_bridges(tmp_path / "log", OWN) as starter:
        yield starter


def test_a_slow_simulation_takes_its_time_and_counts_its_own(start: Callable[..., Bridge]) -> None:
    start(mode="realtime", task=1, speed_factor=0.25, auto_reset=False)
    commander = Commander(OWN)
    heard = commander.follow()
    commander.until(lambda: len(heard) >= 12)
    stamps, times = np.array(heard).T
    # No faster than a quarter of real time, but for what a late beginning catches up; a busy machine may be slower.
    assert times[-1] - times[0] >= 4 * (stamps[-1] - stamps[0] - 2 * PERIOD)
    steps = np.diff(stamps)  # more than one period where this process was kept from hearing all
    assert steps.min() == PERIOD
    assert not (steps % PERIOD).any()
    assert all(result.successful for result in commander.set(speed_factor=100.0))
    count = len(heard)
    commander.until(lambda: len(heard) >= count + 20)
    commander.close()


def test_every_parameter_of_the_bridge_is_in_its_file_and_on_its_page() -> None:
    values = yaml.safe_load((ROOT / "config" / "sim.yaml").read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    assert values == {parameter.name: parameter.default for parameter in PARAMETERS}
    page = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
    assert [parameter.name for parameter in PARAMETERS if f"`{parameter.name}`" not in page] == []
