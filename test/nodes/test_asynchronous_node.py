"""The policy node in asynchronous execution while inference is slow: it goes on, joins, waits and drops; over DDS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from lifecycle_msgs.msg import Transition  # noqa: E402
from peer import STEP, TIMEOUT, Peer, good_readings  # noqa: E402

from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.control.inference import Chunk  # noqa: E402
from qgf_ros.loop.command_stream import StreamState  # noqa: E402
from qgf_ros.nodes.policy_node import PolicyNode  # noqa: E402

HORIZON = 8


class SlowPolicy:
    """Action k of inference n, from 1, is (n/100, (k + 1)/100); an inference lasts until the test lets it end."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.prefixes: list[Any] = []
        self.weights: list[float] = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def warm_up(self, num_samples: int = 1) -> None:
        pass

    def backend(self, critic: str, estimator: str) -> str:
        return "slow"

    def act(
        self, observations: Any, noise: Any, critic: str, weight: float, guidance: Any = None, prefix: Any = None
    ) -> list[Chunk]:
        self.prefixes.append(prefix)
        self.weights.append(weight)
        number = len(self.weights)
        self.begun.release()
        assert self.may_end.acquire(timeout=TIMEOUT)
        actions = np.full((HORIZON, 2), number / 100.0, np.float32)
        actions[:, 1] = np.arange(1, HORIZON + 1) / 100.0
        return [Chunk(actions, actions, {"latency_ms": 1.0})]


class Scene:
    """An active node, what it infers with, and a robot that measures once a control period of simulated time."""

    def __init__(self, node: PolicyNode, peer: Peer, policy: SlowPolicy) -> None:
        self.peer, self.policy = peer, policy
        configured = node._configured
        assert configured is not None
        self.loop = configured.pipeline.loop
        self._worker: Any = configured.pipeline._controller._worker
        self._ticks = configured.pipeline._thread
        heard = (*configured.commander.publishers, configured.commander._telemetry)
        peer.until(lambda: all(publisher.get_subscription_count() for publisher in heard))
        self.step = 100

    def measure(self) -> int:
        """Measure at the next step, once, so that there is one tick; return the stamp."""
        self.step += 1
        self.peer.publish(self.step * STEP, good_readings())
        return self.step * STEP

    def next(self) -> tuple[int, int]:
        """Measure at the next step; return which inference its command is of, and which of the actions it is."""
        stamp = self.measure()
        return self.said(self.peer.wait(lambda: self.peer.commands_for(stamp))[0])

    def ask(self) -> None:
        """Measure at the next step, for which no action is left; wait until an inference begins and the tick has ended.

        A tick takes a chunk that is inferred at once, and this one has to leave it to the next.
        """
        self.measure()
        self.wait_for_inference()
        self.peer.until(lambda: self._ticks.busy_for == 0.0)

    def infer(self) -> None:
        """Let the inference under way end."""
        self.policy.may_end.release()
        self.peer.until(lambda: self._worker._outcome is not None)

    def wait_for_inference(self) -> None:
        assert self.policy.begun.acquire(timeout=TIMEOUT)

    def figures(self) -> dict[str, str]:
        """Return the telemetry of the last command."""
        return Peer.values(self.peer.wait(lambda: self.peer.telemetry_for(self.step * STEP)))

    @staticmethod
    def said(command: Any) -> tuple[int, int]:
        number, action = (round(value * 1000.0) for value in command.position)
        return number, action - 1


@pytest.fixture
def begin(
    start: Callable[..., PolicyNode], peer: Peer, manifest_factory: Callable[..., Manifest]
) -> Iterator[Callable[..., Scene]]:
    """Start a node that asks for the next chunk after two of eight actions, up to its first command."""
    made: list[SlowPolicy] = []

    def run(**values: Any) -> Scene:
        # Nothing is stale while the set of a later step is published topic by topic.
        fields = [field.model_copy(update={"max_age": 10.0}) for field in manifest_factory().observation]
        policy = SlowPolicy(manifest_factory(horizon=HORIZON, observation=tuple(fields)))
        made.append(policy)
        settings = {"execution": "asynchronous", "execution_horizon": 2, **values}
        node = start(loader=lambda *_: policy, use_sim_time=True, observation_reliability="reliable", **settings)
        peer.activate(policy.manifest.observation)
        scene = Scene(node, peer, policy)
        scene.ask()
        assert peer.commands == []
        scene.infer()
        assert scene.next() == (1, 0)  # the robot stood still until then
        return scene

    yield run
    for policy in made:
        policy.may_end.release(1000)


@pytest.mark.parametrize("seam", ["switch", "rtc"])
def test_the_robot_goes_on_while_the_next_chunk_is_inferred_and_joins_it_at_the_action_that_is_due(
    begin: Callable[..., Scene], seam: str
) -> None:
    scene = begin(seam=seam)
    assert [scene.next() for _ in range(5)] == [(1, k) for k in range(1, 6)]  # the third asked, and nobody answered
    scene.wait_for_inference()
    scene.infer()
    assert scene.next() == (2, 4)  # four control periods after it was asked for
    assert scene.figures()["inference_delay"] == "4.0"
    assert scene.policy.prefixes[0] is None
    prefix = scene.policy.prefixes[1]
    if seam == "switch":
        assert prefix is None
    else:
        target = np.zeros((HORIZON, 2), np.float32)
        target[:6] = [(0.01, (k + 1) / 100.0) for k in range(2, 8)]  # what was left of the first
        np.testing.assert_allclose(prefix.target[0].reshape(HORIZON, 2), target)
        assert prefix.weight[0, 0] > 0.0


def test_a_chunk_that_runs_out_is_a_hold_with_its_reason_and_the_next_one_goes_on_after_what_was_executed(
    begin: Callable[..., Scene],
) -> None:
    scene = begin()
    starved = int(scene.figures()["starved_ticks"])
    assert [scene.next() for _ in range(7)] == [(1, k) for k in range(1, 8)]
    last = scene.step
    scene.measure()
    scene.peer.until(lambda: scene.loop.gate.state is not StreamState.COMMANDING)
    assert list(scene.peer.held(last * STEP)[-1].position) == [0.0, 0.0]
    assert "still being inferred, and none is left to execute" in str(scene.loop.gate.fault)
    scene.wait_for_inference()
    scene.infer()
    assert scene.next() == (2, 6)  # asked for at the third action, and six of its periods were executed
    assert int(scene.figures()["starved_ticks"]) > starved
    assert scene.figures()["holds"] == "1"


def test_a_chunk_older_than_its_last_action_is_dropped_and_counted_and_another_one_asked_for(
    begin: Callable[..., Scene],
) -> None:
    scene = begin()
    assert [scene.next() for _ in range(2)] == [(1, 1), (1, 2)]
    scene.wait_for_inference()
    scene.infer()
    scene.step += HORIZON
    scene.ask()
    scene.infer()
    assert scene.next() == (3, 0)
    assert scene.figures()["late_chunks"] == "1"


@pytest.mark.parametrize("event", ["hold", "deactivate", "disable"])
def test_after_a_hold_nothing_that_was_inferred_or_asked_for_before_is_sent(
    begin: Callable[..., Scene], event: str
) -> None:
    scene = begin()
    assert [scene.next() for _ in range(3)] == [(1, 1), (1, 2), (1, 3)]
    scene.wait_for_inference()
    peer = scene.peer
    if event == "hold":
        assert peer.trigger("hold")
    elif event == "deactivate":
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    else:
        assert peer.set(enable_motion=False).successful
    assert list(peer.held(scene.step * STEP)[-1].position) == [0.0, 0.0]  # although inference is still under way
    if event == "hold":
        assert peer.trigger("resume")
    elif event == "deactivate":
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    else:
        assert peer.set(enable_motion=True).successful
    scene.policy.may_end.release()  # of the second, which nobody wants any more
    scene.ask()
    scene.infer()
    assert scene.next() == (3, 0)
    assert {scene.said(command)[0] for command in peer.commands if any(command.position)} == {1, 3}


def test_settings_that_are_changed_while_a_chunk_is_inferred_leave_it_in_use_and_ask_for_another(
    begin: Callable[..., Scene],
) -> None:
    scene = begin(guidance_weight=0.2)
    assert [scene.next() for _ in range(2)] == [(1, 1), (1, 2)]
    scene.wait_for_inference()
    for k in range(3, 6):  # as a slider that is dragged
        assert scene.peer.set(guidance_weight=k / 4.0).successful
        assert scene.next() == (1, k)
    scene.infer()
    assert scene.next() == (2, 4)
    assert scene.figures()["guidance_weight"] == "0.2"
    scene.wait_for_inference()  # at the same tick
    scene.infer()
    assert scene.next() == (3, 1)
    assert scene.policy.weights == [0.2, 0.2, 1.25]
