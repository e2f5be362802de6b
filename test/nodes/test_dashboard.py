"""The ROS side of the dashboard over DDS: a real policy node around a fake policy, and a stub of the bridge."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")

from diagnostic_msgs.msg import DiagnosticArray
from peer import STEP, Peer
from rcl_interfaces.msg import ParameterEvent
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from spinning import SpinningThread
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from qgf_sim.dashboard import ros_side as graph_module
from qgf_sim.dashboard.camera_watch import CameraLook
from qgf_sim.dashboard.ros_side import RosSide
from qgf_sim.dashboard.state import ERROR, OK, PageState

UNREADABLE = Parameter("bundle", value=7).to_parameter_msg()
PATIENCE = 60.0  # [s], for a machine that is busy with something else


class Dashboard:
    """A page's state and ROS side, driven by the test's own thread as the process drives them."""

    def __init__(self, context: Any, **parameters: Any) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = Node("dashboard", context=context, parameter_overrides=overrides)
        self.state = PageState()
        self.graph = RosSide(self.node, self.state)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < deadline, self.state.view()
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def says(self, text: str, level: int = OK) -> None:
        """Wait for a notice."""
        self.until(lambda: text in self.state.view().notice.text)
        assert self.state.view().notice.level == level

    def ready(self) -> None:
        """Wait until it has found the policy node and knows its parameters."""
        self.until(lambda: self.state.view().parameters)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def diagnostics_period() -> float:
    """Once a second, as it is: while three are heard, all parameters can be read."""
    from qgf_ros.nodes.diagnostics import DIAGNOSTICS_PERIOD

    return DIAGNOSTICS_PERIOD


@pytest.fixture
def dashboard(context: Any) -> Iterator[Dashboard]:
    dashboard = Dashboard(context)
    yield dashboard
    dashboard.close()


class StubBridge:
    """What the dashboard knows of a bridge: parameters, services, a clock, outcomes and observations."""

    def __init__(self, context: Any) -> None:
        self.node = Node("sim_bridge", context=context)
        self.called: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        for name, value in {"environment": "cube-single", "task": 2, "seed": 4}.items():
            self.node.declare_parameter(name, value)
        for name in ("reset", "step"):
            self.node.create_service(Trigger, f"~/{name}", lambda q, r, name=name: self._answer(name, r))
        self.node.create_service(SetBool, "~/pause", lambda q, r: self._answer(f"pause {q.data}", r))
        self._clock = self.node.create_publisher(Clock, "/clock", 10)
        self._joints = self.node.create_publisher(JointState, "joint_states", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._episodes = self.node.create_publisher(String, "~/episode", latched)
        self.node.create_timer(0.1, self._beat)
        self.silent = False
        self._thread = SpinningThread(context, self.node)

    def _beat(self) -> None:
        if not self.silent:
            self._clock.publish(Clock())
            self._joints.publish(JointState(name=["elbow_joint"], position=[0.5]))

    def _answer(self, name: str, response: Any) -> Any:
        self.called.append(name)
        assert self.answers.wait(PATIENCE)
        response.success, response.message = name != "step", f"{name} was called"
        return response

    def finish(self, **outcome: Any) -> None:
        self._episodes.publish(String(data=json.dumps(outcome)))

    def close(self) -> None:
        self.answers.set()
        self._thread.close()
        self.node.destroy_node()


@pytest.fixture
def bridge(context: Any) -> Iterator[StubBridge]:
    bridge = StubBridge(context)
    yield bridge
    bridge.close()


def test_the_node_s_state_and_ticks_arrive(active: Peer, dashboard: Dashboard) -> None:
    dashboard.ready()
    stamp = 10 * STEP

    def ticked() -> bool:
        nonlocal stamp
        active.answer(stamp)
        stamp += STEP
        view = dashboard.state.view()
        links = [view.links[name].text for name in ("telemetry", "policy node")]
        return view.curves["q"].shape[1] > 3 and links[0].startswith("tick ") and links[1] == "commanding"

    dashboard.until(ticked)
    view = dashboard.state.view()
    assert set(view.curves["q"][1]) == {1.5}, "the fake policy's Q"
    assert not view.simulated


def test_in_simulated_time_that_stands_still_the_page_goes_on(active: Peer, context: Any) -> None:
    dashboard = Dashboard(context, use_sim_time=True)
    try:
        dashboard.ready()
    finally:
        dashboard.close()


def test_a_value_that_is_set_is_in_force_in_the_node(active: Peer, dashboard: Dashboard, policy: Any) -> None:
    dashboard.ready()
    dashboard.graph.set("guidance_weight", 0.25)
    dashboard.says("guidance_weight is 0.25")
    assert dashboard.state.value("guidance_weight") == 0.25
    active.answer(10 * STEP)
    assert policy.calls[-1][1] == 0.25


def test_a_refused_value_says_why_and_the_old_one_stays(active: Peer, dashboard: Dashboard) -> None:
    dashboard.ready()
    dashboard.graph.set("num_samples", 3)
    dashboard.says("num_samples is 3")
    dashboard.graph.set("execution_horizon", 5)
    dashboard.says("execution_horizon 5 was refused: ", ERROR)
    assert "horizon" in dashboard.state.view().notice.text.partition("refused: ")[2]
    dashboard.graph.set("num_samples", 0)
    dashboard.says("num_samples 0 was refused: ", ERROR)
    assert dashboard.state.value("num_samples") == 3
    assert dashboard.graph.setting == frozenset()


def test_of_values_that_come_faster_than_answers_only_the_last_is_sent(
    active: Peer, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.ready()
    weights = [i / 100 for i in range(1, 31)]
    sent = []
    call = dashboard.graph._setter.call_async

    def remember(request: Any) -> Any:
        sent.extend(parameter.value.double_value for parameter in request.parameters)
        return call(request)

    monkeypatch.setattr(dashboard.graph._setter, "call_async", remember)
    for weight in weights:
        dashboard.graph.set("guidance_weight", weight)
    dashboard.says("guidance_weight is 0.3")
    assert sent == [0.01, 0.3]


def test_what_others_set_is_followed(active: Peer, dashboard: Dashboard) -> None:
    dashboard.ready()
    assert active.set(guidance_weight=0.7).successful
    dashboard.until(lambda: dashboard.state.value("guidance_weight") == 0.7)


def test_what_the_node_says_of_itself_outweighs_what_was_heard_before(active: Peer, dashboard: Dashboard) -> None:
    """As after a restart within a second or two, whose parameter events nobody hears."""
    dashboard.ready()
    assert active.set(guidance_weight=0.7).successful
    dashboard.until(lambda: dashboard.state.value("guidance_weight") == 0.7)
    heard: list[str] = []
    status = dashboard.state.status

    def count(level: int, message: str, figures: Any) -> bool:
        heard.append(message)
        return status(level, message, figures)

    dashboard.state.status = count  # type: ignore[method-assign]
    dashboard.until(lambda: len(heard) >= 3)  # with the first the parameters are read; by the third they are known
    dashboard.state.parameters({"guidance_weight": 0.1})
    dashboard.until(lambda: dashboard.state.value("guidance_weight") == 0.7)


def test_recommended_shows_the_number_that_the_node_chose(active: Peer, dashboard: Dashboard) -> None:
    dashboard.ready()
    dashboard.graph.set("guidance_weight", 0.9)
    dashboard.until(lambda: dashboard.state.value("guidance_weight") == 0.9)
    dashboard.graph.set("use_recommended_weight", True)
    dashboard.until(lambda: dashboard.state.value("guidance_weight") == 0.5)  # of the critic 'near'


def test_hold_stops_the_node_and_resume_lets_it_go_on(active: Peer, dashboard: Dashboard) -> None:
    dashboard.ready()
    active.answer(10 * STEP)
    dashboard.graph.trigger("hold")
    dashboard.says("hold: nothing but the hold is published until ~/resume", ERROR)  # a robot that is held is red
    active.held(10 * STEP)
    dashboard.until(lambda: dashboard.state.view().links["policy node"].text.startswith("stopped: "))
    dashboard.graph.trigger("resume")
    dashboard.says("resume: observations are answered again")
    active.answer(12 * STEP)


def test_without_a_node_a_request_says_so_at_once(dashboard: Dashboard) -> None:
    dashboard.graph.trigger("hold")
    assert dashboard.state.view().notice.level == ERROR
    assert "nobody serves" in dashboard.state.view().notice.text
    dashboard.graph.set("guidance_weight", 0.1)
    assert dashboard.graph.setting == frozenset()


def test_an_answer_that_never_comes_is_given_up(
    context: Any, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "REQUEST_TIMEOUT", 0.5)
    deaf = Node("policy_node", context=context)  # nobody spins it
    deaf.create_service(Trigger, "~/hold", lambda request, response: response)
    dashboard.until(lambda: dashboard.graph._triggers["hold"].service_is_ready())
    dashboard.graph.trigger("hold")
    dashboard.says("hold: no answer from policy_node/hold", ERROR)
    deaf.destroy_node()


def test_a_late_answer_is_told_too(bridge: StubBridge, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """To begin an episode, the bridge may have to build an environment."""
    dashboard.until(lambda: dashboard.graph.scene)
    monkeypatch.setattr(graph_module, "REQUEST_TIMEOUT", 0.5)
    bridge.answers.clear()
    dashboard.graph.trigger("reset")
    dashboard.says("reset: no answer from sim_bridge/reset", ERROR)
    bridge.answers.set()
    dashboard.says("reset: reset was called")


def test_a_late_answer_does_not_hide_that_a_newer_value_is_on_its_way(
    context: Any, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, executor = Node("policy_node", context=context), SingleThreadedExecutor(context=context)
    slow.declare_parameter("guidance_weight", 0.0)
    executor.add_node(slow)
    monkeypatch.setattr(graph_module, "REQUEST_TIMEOUT", 0.5)
    dashboard.until(lambda: dashboard.graph._setter.service_is_ready())
    dashboard.graph.set("guidance_weight", 0.1)
    dashboard.says("set guidance_weight: no answer from policy_node/set_parameters", ERROR)
    monkeypatch.setattr(graph_module, "REQUEST_TIMEOUT", PATIENCE)
    dashboard.graph.set("guidance_weight", 0.2)
    found: list[tuple[str, frozenset[str]]] = []
    dashboard.state.notice = lambda level, text: found.append((text, dashboard.graph.setting))  # type: ignore[method-assign]
    dashboard.until(lambda: executor.spin_once(timeout_sec=0.0) or len(found) == 2)
    assert found == [("guidance_weight is 0.1", {"guidance_weight"}), ("guidance_weight is 0.2", set())]
    executor.shutdown()
    slow.destroy_node()


def test_the_bridge_is_found_and_its_scene_followed(bridge: StubBridge, dashboard: Dashboard) -> None:
    assert not dashboard.state.view().simulated
    dashboard.until(lambda: dashboard.graph.scene == {"environment": "cube-single", "task": 2, "seed": 4})
    dashboard.until(lambda: dashboard.state.view().simulated)
    reading = dashboard.until(lambda: dashboard.graph.readings.get("joint_states"))
    assert (reading.names, reading.position.tolist()) == (("elbow_joint",), [0.5])
    bridge.node.set_parameters([Parameter("seed", value=5)])
    dashboard.until(lambda: dashboard.graph.scene["seed"] == 5)


def test_the_buttons_reach_the_bridge_and_its_words_the_page(bridge: StubBridge, dashboard: Dashboard) -> None:
    dashboard.until(lambda: dashboard.graph.scene)
    for name in ("reset", "step"):
        dashboard.graph.trigger(name)
        dashboard.says(f"{name}: {name} was called", OK if name == "reset" else ERROR)
    dashboard.graph.pause(True)
    dashboard.says("pause: pause True was called")
    dashboard.graph.pause(False)
    dashboard.says("run: pause False was called")
    assert bridge.called == ["reset", "step", "pause True", "pause False"]


def test_finished_episodes_arrive_late_ones_too(context: Any, bridge: StubBridge) -> None:
    bridge.finish(episode=1, task=2, seed=4, success=True, length=61)
    late = Dashboard(context)
    late.until(lambda: late.state.view().episodes)
    assert late.state.view().episodes[0].length == 61
    bridge.finish(episode=2, task=2, seed=5, success=False, length=200)
    late.until(lambda: len(late.state.view().episodes) == 2)
    assert late.state.view().success_rate[1].tolist() == [1.0, 0.5]
    late.close()


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("policy_node/telemetry", DiagnosticArray()),
        ("sim_bridge/episode", String(data="not JSON")),
        ("sim_bridge/episode", String(data="[1]")),
        ("sim_bridge/episode", String(data='{"task": 2}')),
        ("/parameter_events", ParameterEvent(node="/policy_node", new_parameters=[UNREADABLE])),
    ],
)
def test_a_message_that_cannot_be_read_is_dropped_with_a_notice(
    context: Any, dashboard: Dashboard, topic: str, message: Any
) -> None:
    stranger = Node("stranger", context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = stranger.create_publisher(type(message), topic, latched)

    def dropped() -> bool:
        publisher.publish(message)
        return "was dropped" in dashboard.state.view().notice.text

    dashboard.until(dropped)
    assert topic in dashboard.state.view().notice.text
    assert dashboard.state.view().episodes == ()
    stranger.destroy_node()


def test_a_bridge_that_falls_silent_is_lost_and_found_again(bridge: StubBridge, dashboard: Dashboard) -> None:
    dashboard.until(lambda: dashboard.state.view().links["bridge"].text == "running")
    bridge.silent = True
    dashboard.until(lambda: "lost" in dashboard.state.view().links["bridge"].text)
    bridge.silent = False
    dashboard.until(lambda: dashboard.state.view().links["bridge"].text == "running")


def test_a_clock_without_a_bridge_is_no_bridge(active: Peer, dashboard: Dashboard) -> None:
    heard: list[Any] = []
    dashboard.node.create_subscription(Clock, "/clock", heard.append, 10)

    def told() -> bool:
        active.tell_time(STEP)
        return len(heard) > 3

    dashboard.until(told)
    dashboard.ready()
    assert not dashboard.state.view().simulated


def test_what_the_policy_sees_is_that_of_the_robot_s_topics_and_only_while_somebody_looks(
    context: Any, start: Callable[..., Any], dashboard: Dashboard, tmp_path: Path
) -> None:
    cv2 = pytest.importorskip("cv2", reason="pictures need the camera extra")
    pytest.importorskip("onnx", reason="building encoders needs onnx")
    from camera_bundles import write_camera_bundle

    from qgf_ros.bundle.cameras import CameraField
    from qgf_ros.control.vision.pixels import seen

    camera = CameraField(topic="front/image_raw", width=12, height=10, crop=(2, 0, 8, 10), size=(5, 4))
    contract = tmp_path / "robot.yaml"
    contract.write_text("cameras:\n  front: {topic: realsense/color, encoding: bgr8}\n")
    start(bundle=str(write_camera_bundle(tmp_path / "seeing", {"front": camera})), contract=str(contract))
    robot = Node("robot", context=context)
    publisher = robot.create_publisher(Image, "realsense/color", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    message = Image(encoding="bgr8", width=12, height=10, step=36, data=pixels.tobytes())
    watch = dashboard.graph.cameras

    def look() -> Any:
        watch.look(True)  # as the page does, again and again: the node may be another one by now
        publisher.publish(message)
        return watch.looks().get("front", CameraLook("", ""))

    dashboard.until(watch.looks)
    assert publisher.get_subscription_count() == 0
    source = dashboard.until(lambda: look().source)
    assert source.startswith("data:image/png;base64,")
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    here = camera.model_copy(update={"encoding": "bgr8"})
    np.testing.assert_array_equal(shown[..., ::-1], seen(pixels, here))
    assert look().complaint == ""
    message.encoding = "bayer_rggb8"
    dashboard.until(lambda: "gives bayer_rggb8, the raw pattern" in look().complaint)
    dashboard.until(lambda: watch.looks()["front"].complaint.startswith("silent for "))
    watch.look(False)
    dashboard.until(lambda: publisher.get_subscription_count() == 0)
    robot.destroy_node()
