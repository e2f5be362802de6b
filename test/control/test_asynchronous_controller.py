"""Asynchronous execution: which chunk is played when inference takes time, and that a stale one never is."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import Chunk, ChunkRequest, infer
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import SEAMS, RunOptions
from qgf_ros.errors import GuidanceError, NotReadyError
from qgf_ros.guidance.prefix import Prefix, soft_mask
from qgf_ros.guidance.shaping import QGF

STEP = 50_000_000
HORIZON = 8


def manifest() -> Manifest:
    message = "std_msgs/msg/Float64MultiArray"
    return Manifest(
        name="numbered",
        observation=(ObservationField(name="x", topic="x", message_type=message, extraction="data", size=3, unit="1"),),
        action=tuple(ActionField(name=n, unit="m", scale=0.5, lower=-0.5, upper=0.5) for n in ("dx", "dy")),
        horizon=HORIZON,
        execution_horizon=3,
        control_rate=20.0,
        critics={"near": CriticCard(task="near", discount=0.99, ensemble_size=2)},
    )


class NumberedPolicy:
    """Action k of the chunk inferred from the observation of step n is (n + k, number of the inference)/1000."""

    def __init__(self) -> None:
        self.manifest = manifest()
        self.prefixes: list[Any] = []
        self.requests: list[tuple[int, float]] = []  # step of the observation, and weight
        self.error: Exception | None = None

    def act(
        self,
        observations: Any,
        noise: Any,
        critic: str,
        guidance_weight: float,
        guidance: Any = QGF,
        prefix: Any = None,
    ) -> list[Chunk]:
        if self.error is not None:
            raise self.error
        self.prefixes.append(prefix)
        self.requests.append((int(observations[0, 0]), guidance_weight))
        actions = np.empty((HORIZON, 2), np.float32)
        actions[:, 0] = (observations[0, 0] + np.arange(HORIZON)) / 1000.0
        actions[:, 1] = len(self.requests) / 1000.0
        return [Chunk(actions, actions, {"latency_ms": 1.0})]


class DelayedWorker:
    """Delivers each chunk a number of control steps after its observation."""

    busy_for = 0.0

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self.infer: Any = None
        self._request: ChunkRequest | None = None

    @property
    def busy(self) -> bool:
        return self._request is not None

    def submit(self, request: ChunkRequest) -> None:
        assert self._request is None
        self._request = request

    def take(self, stamp: int) -> tuple[ChunkRequest, Chunk] | None:
        request = self._request
        if request is None or abs(stamp - request.stamp) < self.delay * STEP:
            return None
        self._request = None
        return request, self.infer(request)

    def abandon(self) -> None:
        self._request = None

    def close(self) -> None:
        self.abandon()


def asynchronous(policy: NumberedPolicy, delay: int, **changes: Any) -> Controller:
    worker = DelayedWorker(delay)
    values = {"guidance_weight": 0.1, "critic": "near", "execution_horizon": 3, "execution": "asynchronous"}
    controller = Controller(policy, RunOptions(**{**values, **changes}), worker=worker)
    worker.infer = controller.inference
    return controller


def seen(step: int) -> Any:
    return Observation(np.array([step, 0, 0], np.float32), step * STEP)


def play(controller: Controller, steps: Any) -> list[Any]:
    """Return (step the action was planned for, number of its inference) of every tick, None where none was ready."""
    played: list[Any] = []
    for step in steps:
        try:
            action = controller.tick(seen(step)).action * 1000.0
            played.append((round(float(action[0])), round(float(action[1]))))
        except NotReadyError:
            controller.pause()
            played.append(None)
    return played


def test_the_next_chunk_is_inferred_while_this_one_is_executed() -> None:
    policy = NumberedPolicy()
    played = play(asynchronous(policy, 2), range(14))
    # The first chunk begins with its first action, because the robot stood still: its action of time 0 at step 2.
    assert played[:7] == [None, None, (0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]
    # Asked at step 5, after three actions of the first; there at step 7, and joined at the action of that time.
    assert played[7:12] == [(7, 2), (8, 2), (9, 2), (10, 3), (11, 3)]
    assert [step for step, _ in policy.requests[:3]] == [0, 5, 8]


@pytest.mark.parametrize("seam", SEAMS)
def test_without_a_delay_it_is_synchronous_execution_to_the_bit(seam: str) -> None:
    ticks = range(12)
    runs = []
    for execution in ("synchronous", "asynchronous"):
        controller = asynchronous(NumberedPolicy(), 0, execution=execution, seam=seam)
        runs.append([controller.tick(seen(k)) for k in ticks])
    for one, other in zip(*runs, strict=True):
        assert (one.values.tobytes(), one.inferred, one.stamp) == (other.values.tobytes(), other.inferred, other.stamp)


def test_a_delay_longer_than_the_execution_horizon_is_borne_by_the_rest_of_the_chunk() -> None:
    controller = asynchronous(NumberedPolicy(), 4, execution_horizon=2)
    played = play(controller, range(30))
    assert None not in played[4:]
    assert [step for step, _ in played[10:]] == list(range(10, 30))


def test_a_chunk_that_runs_out_is_a_wait_and_then_the_plan_goes_on_where_it_stopped() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 6)
    played = play(controller, range(16))
    # First chunk: 8 actions from step 6 on, the next one asked for at its fourth, at step 9, and there at step 15:
    # one tick without an action, and 5 of its 6 steps were executed by then.
    assert played[6:] == [*((k, 1) for k in range(8)), None, (9 + 5, 2)]
    assert controller.counts == {"starved_ticks": 7, "late_chunks": 0}


def test_waiting_says_why_and_holds_the_robot_still() -> None:
    controller = asynchronous(NumberedPolicy(), 3)
    with pytest.raises(NotReadyError, match="still being inferred, and none is left to execute; if this lasts, lower"):
        controller.tick(seen(0))
    still = controller.pause()
    assert still is not None
    assert still.tolist() == [0.0, 0.0]


def test_a_chunk_older_than_its_last_action_is_dropped_and_counted() -> None:
    controller = asynchronous(NumberedPolicy(), HORIZON)
    assert play(controller, range(HORIZON + 1)) == [None] * (HORIZON + 1)
    assert controller.counts["late_chunks"] == 1


def test_after_new_settings_the_inference_under_way_is_used_and_theirs_is_asked_for_at_once() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 2)
    play(controller, range(6))  # at step 5 a chunk of the old settings is asked for
    controller.apply(replace(controller.settings, guidance_weight=0.9))
    assert play(controller, range(6, 9)) == [(4, 1), (7, 2), (8, 2)]
    assert controller.guidance_weight == 0.1
    assert play(controller, range(9, 11)) == [(9, 3), (10, 3)]
    assert policy.requests == [(0, 0.1), (5, 0.1), (7, 0.9)]
    assert controller.guidance_weight == 0.9


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_settings_that_change_at_every_tick_leave_no_tick_without_an_action(delay: int) -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, delay)
    play(controller, range(2 * delay))
    weights = {step: 0.1 for step in range(2 * delay)}
    for step in range(2 * delay, 60):
        weights[step] = 0.1 + step / 1000.0
        controller.apply(replace(controller.settings, guidance_weight=weights[step]))
        assert play(controller, [step]) != [None]
        assert controller.guidance_weight >= weights[step - 2 * delay], "older than two inferences"


@pytest.mark.parametrize(("slew", "guided"), [(math.inf, False), (0.1, True)])
def test_no_guided_chunk_begins_once_the_weight_is_0(slew: float, guided: bool) -> None:
    policy = NumberedPolicy()
    act = policy.act
    policy.act = lambda *given, **more: [  # type: ignore[method-assign]
        replace(chunk, unguided=chunk.actions + np.float32(0.1)) for chunk in act(*given, **more)
    ]
    controller = asynchronous(policy, 2, guidance_weight_slew=slew)
    play(controller, range(6))  # at step 5 a guided chunk is asked for
    controller.apply(replace(controller.settings, guidance_weight=0.0))
    played = play(controller, [6, 7])
    assert policy.requests[-1] == (5, 0.1)
    assert played[1] == ((7, 2) if guided else (107, 102))
    assert controller.guidance_weight == (0.1 if guided else 0.0)


class TwinPolicy(NumberedPolicy):
    """A guided action is 0.5; its unguided twin is 0, or goes on as guided where its prefix is."""

    def act(self, *given: Any, prefix: Any = None, **more: Any) -> list[Chunk]:
        self.prefixes.append(prefix)
        self.requests.append((int(given[0][0, 0]), given[3]))
        plain = np.zeros((HORIZON, 2), np.float32)
        if prefix is not None and prefix.target[0].any():
            plain += np.float32(0.25)
        return [Chunk(np.full_like(plain, 0.5) if given[3] else plain, plain, {})]


@pytest.mark.parametrize("seam", SEAMS)
@pytest.mark.parametrize("weights", [[0.5, 0.0], [0.5, 0.0, 0.5, 0.0]], ids=["once", "there and back"])
def test_telemetry_says_weight_0_only_while_nothing_guided_is_executed(seam: str, weights: list[float]) -> None:
    controller = asynchronous(TwinPolicy(), 2, seam=seam, execution_horizon=1, blend_steps=4)
    told = []
    for step in range(20):
        weight = weights[0] if step < 12 else weights[min(step - 11, len(weights) - 1)]
        controller.apply(replace(controller.settings, guidance_weight=weight))
        try:
            action = controller.tick(seen(step)).action
        except NotReadyError:
            continue
        told.append(controller.guidance_weight)
        assert controller.guidance_weight > 0.0 or not action.any()
    assert told[:5] == [0.5] * 5
    assert told[-4:] == [0.0] * 4, "two inferences after the change"


def test_telemetry_names_the_critic_of_the_chunk_under_way_until_that_of_the_next_one() -> None:
    policy = NumberedPolicy()
    card = policy.manifest.critics["near"]
    policy.manifest = policy.manifest.model_copy(update={"critics": {"near": card, "far": card}})
    controller = asynchronous(policy, 2)
    play(controller, range(6))
    controller.apply(replace(controller.settings, critic="far"))
    critics = []
    for step in range(6, 10):
        controller.tick(seen(step))
        critics.append(controller.critic)
    assert critics == ["near", "near", "near", "far"]


@pytest.mark.parametrize("event", ["hold", "reset", "drop_chunk"])
def test_after_a_hold_nothing_inferred_before_it_is_used(event: str) -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 2)
    play(controller, range(6))
    getattr(controller, event)()
    assert play(controller, range(6, 9)) == [None, None, (6, 2)]
    assert [step for step, _ in policy.requests] == [0, 6]


def test_an_inference_that_fails_raises_at_the_tick_that_takes_it_and_the_next_one_begins_anew() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 1)
    policy.error = GuidanceError("the velocity field is not finite")
    with pytest.raises(NotReadyError):
        controller.tick(seen(0))
    with pytest.raises(GuidanceError, match="not finite"):
        controller.tick(seen(1))
    policy.error = None
    assert play(controller, range(2, 4)) == [None, (2, 1)]


def test_a_failed_critic_is_told_with_the_chunk_that_it_concerns() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 1)
    act = policy.act
    policy.act = lambda *given, **more: [  # type: ignore[method-assign]
        replace(chunk, telemetry={**chunk.telemetry, "critic_failed": 1.0}) for chunk in act(*given, **more)
    ]
    play(controller, [0])
    command = controller.tick(seen(1))
    assert (command.inferred, command.telemetry["critic_failed"], command.telemetry["inference_delay"]) == (True, 1, 1)


@pytest.mark.parametrize("jump", [-20, -1, HORIZON, 1000])
def test_a_clock_jump_ends_what_was_planned_and_asked_for_before(jump: int) -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 2)
    play(controller, range(100, 106))
    played = play(controller, range(105 + jump, 105 + jump + 4))
    assert played[:2] == [None, None]
    assert all(one is None or one[1] >= 2 for one in played)
    assert all(one is None or one[0] >= 105 + jump for one in played)


def test_a_clock_that_falls_back_never_reaches_an_older_request_again() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 3)
    play(controller, [100, 99, 100, 101])
    assert play(controller, [102])[0] == (99, 1)
    assert [step for step, _ in policy.requests] == [99]


def test_the_prefix_is_what_is_left_of_the_chunk_frozen_for_the_longest_delay_seen() -> None:
    policy = NumberedPolicy()
    controller = asynchronous(policy, 2, seam="rtc")
    play(controller, range(8))
    assert policy.prefixes[0] is None
    prefix = policy.prefixes[1]
    np.testing.assert_array_equal(prefix.weight[0, ::2], soft_mask(HORIZON, 2, 5))
    target = np.zeros((HORIZON, 2), np.float32)
    target[:5] = [(k / 1000.0, 0.001) for k in range(3, 8)]
    np.testing.assert_allclose(prefix.target[0].reshape(-1, 2), target, rtol=1e-6)


@pytest.mark.parametrize("seam", ["switch", "linear", "ensemble"])
def test_no_other_seam_asks_for_a_prefix(seam: str) -> None:
    policy = NumberedPolicy()
    play(asynchronous(policy, 2, seam=seam), range(12))
    assert policy.prefixes == [None] * len(policy.prefixes)
    assert len(policy.prefixes) > 2


def test_a_tick_never_waits_for_the_thread_that_infers() -> None:
    policy, gate = NumberedPolicy(), threading.Event()
    act = policy.act

    def slow(*given: Any, **more: Any) -> list[Chunk]:
        assert gate.wait(60.0)
        return act(*given, **more)

    policy.act = slow  # type: ignore[method-assign]
    controller = Controller(policy, RunOptions(0.1, "near", execution_horizon=3, execution="asynchronous"))
    try:
        assert play(controller, range(3)) == [None] * 3  # with the gate closed, or this would not end
        gate.set()
        clock = threading.Event()
        for _ in range(30_000):
            (played,) = play(controller, [3])
            if played is not None:
                break
            clock.wait(0.001)
        assert played == (0, 1)
        assert policy.requests[0] == (0, 0.1)
    finally:
        gate.set()
        controller.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"execution": "parallel"}, "execution 'parallel' was given; it must be one of synchronous, asynchronous"),
        ({"seam": "weld"}, "seam 'weld' was given; it must be one of switch, linear, ensemble, rtc"),
        ({"blend_steps": 0}, "blend_steps 0 was given; it must be at least 1"),
        ({"execution_horizon": HORIZON}, "it must be below 8, the bundle's horizon, so that actions are left"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GuidanceError, match=message):
        asynchronous(NumberedPolicy(), 1, **changes)


class AsynchronousRuns(RuleBasedStateMachine):
    """Any order of ticks, waits, holds, resets, changes, clock jumps and failures, at any delay."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = NumberedPolicy()
        self.controller = asynchronous(self.policy, 0)
        self.worker: Any = self.controller._worker
        self.step = 1000
        self.era = self.step  # step of the oldest observation that may still be answered
        self.weight = 0.1
        self.changed = self.step
        self.before = -math.inf

    @rule(delay=st.integers(0, HORIZON + 1))
    def takes(self, delay: int) -> None:
        self.worker.delay = delay

    @rule(seam=st.sampled_from(SEAMS), horizon=st.integers(1, HORIZON - 1))
    def changes(self, seam: str, horizon: int) -> None:
        self.weight += 0.1
        settings = replace(self.controller.settings, seam=seam, execution_horizon=horizon, guidance_weight=self.weight)
        self.controller.apply(settings)
        self.changed = self.step + 1

    @rule(event=st.sampled_from(["hold", "reset", "drop_chunk"]))
    def interrupted(self, event: str) -> None:
        getattr(self.controller, event)()
        self.era = self.step + 1

    @rule(steps=st.sampled_from([-500, -2, 2, HORIZON + 1, 500]))
    def jumps(self, steps: int) -> None:
        self.step += steps
        if steps < 0:
            self.era = self.step + 1

    @rule(fails=st.booleans())
    def breaks(self, fails: bool) -> None:
        self.policy.error = RuntimeError("device lost") if fails else None

    @rule()
    def ticks(self) -> None:
        self.step += 1
        asked = len(self.policy.requests)
        try:
            command = self.controller.tick(seen(self.step))
        except NotReadyError:
            self.controller.pause()
            return
        except RuntimeError:
            self.controller.hold()
            self.era = self.step + 1
            return
        assert command.stamp == self.step * STEP
        if command.inferred:
            observed, weight = self.policy.requests[-1]
            assert asked < len(self.policy.requests)
            assert observed >= self.era, "a chunk asked for before the interruption was used"
            assert self.step - observed < HORIZON, "a chunk outlived its last action"
            assert observed < self.changed or weight == self.weight, "a chunk of old settings was begun"
            assert weight == self.controller.guidance_weight
        number = round(float(command.action[1]) * 1000.0, 3)
        assert number <= len(self.policy.requests)
        if self.controller.settings.seam == "switch":
            observed, _ = self.policy.requests[round(number) - 1]
            assert observed >= self.era, "a chunk from before the interruption was played"

    @precondition(lambda self: self.policy.error is None)
    @rule()
    def recovers(self) -> None:
        """Where the cause is gone, commands come again by themselves."""
        self.worker.delay = min(self.worker.delay, HORIZON - 1)
        for _ in range(2 * HORIZON + 2):
            self.step += 1
            try:
                self.controller.tick(seen(self.step))
                return
            except NotReadyError:
                self.controller.pause()
        raise AssertionError("no command came")

    @invariant()
    def counts_are_sound(self) -> None:
        assert all(count >= 0 for count in self.controller.counts.values())


AsynchronousRuns.TestCase.settings = examples(30, stateful_step_count=40)
TestAsynchronousRuns = AsynchronousRuns.TestCase


def test_waiting_for_an_abandoned_inference_counts_as_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = asynchronous(NumberedPolicy(), 1, execution="synchronous")
    now = [0.0]
    monkeypatch.setattr("qgf_ros.control.inference.time.perf_counter", lambda: now[0])

    class Abandoned:
        """A lock that somebody else gives back after 0.7 s."""

        def __enter__(self) -> None:
            now[0] += 0.7

        def __exit__(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(controller.inference, "_one_at_a_time", Abandoned())
    assert controller.prepare(seen(0))
    assert controller.inference.seconds == 0.7


def test_requests_with_and_without_a_prefix_are_inferred_in_one_batch_where_none_is_a_weight_of_0() -> None:
    asked: list[Any] = []

    class Batched:
        def act(self, observations: Any, noise: Any, *settings: Any, prefix: Prefix | None = None) -> list[Chunk]:
            asked.append((observations, noise, prefix))
            return [Chunk(each, each, {}) for each in noise]

    size = 2 * HORIZON
    tied = Prefix(np.full(size, 0.5, np.float32), np.linspace(1.0, 0.0, size, dtype=np.float32))
    requests = [
        ChunkRequest(k, np.full(3, k, np.float32), np.full((1, size), k, np.float32), "near", 0.5, QGF, prefix)
        for k, prefix in enumerate((None, tied))
    ]
    assert len(infer(Batched(), requests)) == 2  # type: ignore[arg-type]
    assert len(infer(Batched(), [requests[0], requests[0]])) == 2  # type: ignore[arg-type]
    (observations, noise, prefix), (_, _, free) = asked
    assert observations[:, 0].tolist() == noise[:, 0, 0].tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(prefix.weight, [np.zeros(size), tied.weight])
    np.testing.assert_array_equal(prefix.target[1], tied.target)
    assert free is None
