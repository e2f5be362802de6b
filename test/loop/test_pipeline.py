"""The pipeline of readings, thread and tick loop, with every clock in the test's hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.demonstrations import demonstrations_of
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, VectorReading, WrenchReading
from qgf_ros.control.robot_contract import RobotContract
from qgf_ros.control.run_options import RunOptions
from qgf_ros.loop import pipeline as pipeline_module
from qgf_ros.loop.health import Level
from qgf_ros.loop.pipeline import Pipeline
from qgf_ros.loop.supervision import RECOMMENDED_SUPERVISION, Supervision

STEP = 50_000_000
READINGS: dict[str, Reading] = {
    "joint_states": JointReading(("shoulder", "elbow"), np.zeros(2), np.empty(0), np.empty(0)),
    "effector_pose": PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])),
    "wrench": WrenchReading(np.zeros(3), np.zeros(3)),
}


class Wall:
    """A wall clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def build(policy: Any, recorder: Any, wall: Wall) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def make(*, by_observation: bool = True, simulated_time: bool = False, **options: Any) -> Pipeline:
        settings = RunOptions(0.5, "near", execution_horizon=2)
        pipeline = Pipeline(
            policy,
            settings,
            recorder,
            by_observation=by_observation,
            simulated_time=simulated_time,
            wall=wall,
            **options,
        )
        pipeline.open()
        made.append(pipeline)
        return pipeline

    yield make
    policy.gate.set()
    for pipeline in made:
        pipeline.stop()


def feed(pipeline: Pipeline, stamp: int, now: int | None = None, **changes: Reading) -> None:
    for topic, reading in {**READINGS, **changes}.items():
        pipeline.receive(topic, stamp, reading, stamp if now is None else now)


def answered(recorder: Any, count: int) -> None:
    recorder.wait(lambda r: len(r.telemetry) >= count)


def settled(pipeline: Pipeline) -> None:
    """Wait until no tick is under way or in the mailbox."""
    thread = pipeline._thread
    with thread._condition:
        assert thread._condition.wait_for(lambda: thread._started is None and thread._waiting is None, 60.0)


def holding(recorder: Any, text: str) -> None:
    recorder.wait(lambda r: any(text in said for said in r.texts))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stamps of the observations that were to be answered, which nobody answers."""
    stamps: list[int] = []
    monkeypatch.setattr(
        pipeline_module.InferenceThread, "submit", lambda self, tick: stamps.append(tick.observation.stamp)
    )
    return stamps


def test_a_complete_set_is_answered_with_its_stamp(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    settled(pipeline)
    assert recorder.commands[0][1] == STEP
    assert pipeline.health() == (Level.OK, "commanding")


def test_observations_at_ten_times_the_rate_are_answered_once_a_period(
    build: Callable[..., Pipeline], asked: list[int]
) -> None:
    pipeline = build()
    stamps = [STEP + i * STEP // 10 for i in range(45)]
    for stamp in stamps:
        feed(pipeline, stamp)
    # The first within a quarter of a period before it is due, and on average no more than one a period.
    assert asked == [stamps[i] for i in (0, 8, 18, 28, 38)]


@pytest.mark.parametrize("ratio", [0.5, 0.74, 0.76, 0.9, 0.99])
def test_a_sensor_that_is_a_little_faster_is_answered_no_faster_than_the_control_rate(
    build: Callable[..., Pipeline], asked: list[int], ratio: float
) -> None:
    pipeline = build()
    stamps = [STEP + round(i * ratio * STEP) for i in range(400)]
    for stamp in stamps:
        feed(pipeline, stamp)
    periods = (stamps[-1] - stamps[0]) / STEP
    assert len(asked) <= periods + 1.25
    assert len(asked) > 0.5 * periods


def test_observations_that_tremble_by_a_quarter_of_a_period_are_all_answered(
    build: Callable[..., Pipeline], asked: list[int]
) -> None:
    pipeline = build()
    stamps = [(10 + i) * STEP + (i * 7919 % 11 - 5) * STEP // 40 for i in range(200)]
    for stamp in stamps:
        feed(pipeline, stamp)
    assert asked == stamps


def test_nothing_is_taken_in_before_open_or_after_close(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build()
    pipeline.close()
    feed(pipeline, STEP)
    pipeline.tick(STEP)
    pipeline.watch(10**12)
    assert recorder.commands == []
    assert pipeline.health() == (Level.OK, "inactive, holding")
    pipeline.open()
    feed(pipeline, 2 * STEP)
    answered(recorder, 1)


def test_what_is_wrong_with_readings_while_it_is_closed_is_nobody_s_business(
    build: Callable[..., Pipeline], recorder: Any
) -> None:
    pipeline = build()
    pipeline.close()
    told = list(recorder.texts)
    feed(pipeline, STEP, effector_pose=PoseReading(np.full(3, np.nan), np.array([0.0, 0.0, 0.0, 1.0])))
    feed(pipeline, 2 * STEP, now=2 * STEP + 10**10)
    feed(pipeline, 10**11)
    assert recorder.texts == told
    assert pipeline.loop.statistics.summary()["missed_ticks"] == 0


def test_closing_sends_the_hold_before_it_waits_for_the_tick_under_way(
    build: Callable[..., Pipeline], policy: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "DRAIN_TIMEOUT", 60.0)
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    policy.gate.clear()
    policy.entered.clear()
    feed(pipeline, 10 * STEP)
    assert policy.entered.wait(60.0)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    try:
        recorder.wait(lambda r: r.commands[1:] == [([0.0, 0.0], STEP)])
        assert closing.is_alive()
    finally:
        policy.gate.set()
        closing.join()
    assert len(recorder.commands) == 2


@pytest.mark.parametrize("late", [False, True])
def test_only_a_tick_that_does_not_end_in_time_is_told_to_be_abandoned(
    build: Callable[..., Pipeline], policy: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    monkeypatch.setattr(pipeline_module, "DRAIN_TIMEOUT", 0.01 if late else 60.0)
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    settled(pipeline)
    if late:
        policy.gate.clear()
        policy.entered.clear()
        for step in range(2, 5):  # until a chunk is due
            feed(pipeline, step * STEP)
        assert policy.entered.wait(60.0)
    pipeline.close()
    told = [text for text in recorder.texts if "abandoned" in text]
    assert len(told) == late
    assert all(text.startswith("a tick is under way for 0.") for text in told)


@pytest.mark.parametrize(("simulated", "deadline", "wait"), [(False, 0.1, 0.5), (True, math.inf, math.inf)])
def test_a_simulated_world_waits_for_its_commands_and_a_real_one_does_not(
    build: Callable[..., Pipeline], simulated: bool, deadline: float, wait: float
) -> None:
    pipeline = build(simulated_time=simulated, supervision=RECOMMENDED_SUPERVISION)
    # A chunk lasts two control periods; three late inferences are put up with, but at least half a second.
    assert pipeline.loop.degradation.deadline(pipeline.loop.settings) == pytest.approx(deadline)
    assert pipeline.watchdog._limit() == pytest.approx(wait)


def test_to_stop_is_to_close_first(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    settled(pipeline)
    pipeline.stop()
    assert recorder.commands[-1] == ([0.0, 0.0], STEP)
    assert "holding: deactivated" in recorder.texts
    assert pipeline.health()[1] == "inactive, holding"


def test_a_goal_that_comes_while_inactive_is_kept(policy: Any, manifest_factory: Any, recorder: Any) -> None:
    goal, speed = (
        ObservationField(
            name=name,
            topic=name,
            message_type="std_msgs/msg/Float64MultiArray",
            extraction="data",
            size=1,
            unit="m",
            max_age=max_age,
        )
        for name, max_age in (("goal", None), ("speed", 0.2))
    )
    policy.manifest = manifest_factory(observation=(goal, speed))
    pipeline = Pipeline(
        policy, RunOptions(0.5, "near", execution_horizon=1), recorder, by_observation=True, simulated_time=False
    )
    for turn in (1, 2):
        pipeline.receive("goal", turn, VectorReading(np.array([float(turn)])), turn)
        pipeline.receive("speed", turn, VectorReading(np.array([9.0])), turn)
        pipeline.open()
        pipeline.receive("speed", turn * STEP, VectorReading(np.array([5.0])), turn * STEP)
        answered(recorder, turn)
        assert policy.observations[-1].tolist() == [[float(turn), 5.0]]
        pipeline.close()
    pipeline.stop()


def test_readings_that_grow_old_are_a_hold_at_once_in_wall_time(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    pipeline.watch(STEP + 300_000_000)
    holding(recorder, "topic joint_states is stale, 0.300 s old")
    assert recorder.commands[-1] == ([0.0, 0.0], STEP)
    assert pipeline.health()[0] is Level.ERROR


def test_in_simulated_time_readings_must_stay_old_for_a_moment(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall
) -> None:
    pipeline = build(simulated_time=True)
    feed(pipeline, STEP)
    answered(recorder, 1)
    later = STEP + 10**9  # the clock of a reset arrives before its observations
    pipeline.watch(later)
    wall.now += 0.4
    pipeline.watch(later)
    feed(pipeline, later)
    answered(recorder, 2)
    assert recorder.texts == []
    pipeline.watch(later + 10**9)
    wall.now += 0.6
    pipeline.watch(later + 10**9)
    holding(recorder, "is stale")


def test_an_answer_to_the_timer_ends_what_a_fault_had_lasted_before(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall
) -> None:
    pipeline = build(by_observation=False, simulated_time=True)
    feed(pipeline, STEP)
    pipeline.tick(STEP)
    answered(recorder, 1)
    later = STEP + 10**9
    pipeline.watch(later)
    wall.now += 0.4
    feed(pipeline, later)
    pipeline.tick(later)
    answered(recorder, 2)
    wall.now += 0.4
    pipeline.watch(later + 10**9)
    assert recorder.texts == []
    wall.now += 0.6
    pipeline.watch(later + 10**9)
    holding(recorder, "is stale")


def test_a_simulator_that_stands_still_is_waited_for_without_a_hold(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall
) -> None:
    pipeline = build(simulated_time=True)
    feed(pipeline, STEP)
    answered(recorder, 1)
    settled(pipeline)
    wall.now += 60.0
    pipeline.watch(STEP)
    assert recorder.texts == []
    level, text = pipeline.health()
    assert level is Level.WARN
    assert "no complete observation for 60 s, every topic waits for its next message" in text


def test_stamps_that_never_meet_are_a_hold_that_says_so(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall
) -> None:
    pipeline = build()
    for offset, (topic, reading) in enumerate(READINGS.items()):
        pipeline.receive(topic, STEP + offset, reading, STEP)
    wall.now += 1.5
    pipeline.watch(STEP)
    holding(recorder, "stamps differ")
    assert "set trigger to timer" in recorder.texts[-1]


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize(
    ("missed", "level", "text"),
    [
        (5, Level.OK, "commanding"),
        (6, Level.WARN, "6% of the last ticks were missed; relieve the machine, or ask for less"),
        (20, Level.WARN, "20% of the last ticks were missed; relieve the machine, or ask for less"),
        (21, Level.ERROR, "21% of the last ticks were missed; relieve the machine, or ask for less"),
    ],
)
def test_missed_ticks_are_told_but_in_simulated_time(
    build: Callable[..., Pipeline], recorder: Any, missed: int, level: Level, text: str, simulated: bool
) -> None:
    pipeline = build(simulated_time=simulated)
    feed(pipeline, STEP)
    answered(recorder, 1)
    settled(pipeline)
    statistics = pipeline.loop.statistics
    for tick in range(200):
        statistics.answered(1.0 if tick % 100 < missed else 0.001)
    assert pipeline.health() == ((Level.OK, "commanding") if simulated else (level, text))
    pipeline.fault("blind")
    assert pipeline.health() == (Level.ERROR, "holding: blind")


def test_beats_that_a_timer_leaves_out_and_observations_that_are_overtaken_count_as_missed(
    build: Callable[..., Pipeline], recorder: Any, policy: Any, wall: Wall
) -> None:
    pipeline = build(by_observation=False)
    for tick in range(1, 60):
        feed(pipeline, tick * STEP)
        pipeline.tick(tick * STEP)
        answered(recorder, tick)
        settled(pipeline)
        wall.now += 0.05
    assert pipeline.loop.statistics.missed_share == 0.0
    wall.now += 15 * 0.05
    feed(pipeline, 75 * STEP)
    pipeline.tick(75 * STEP)
    answered(recorder, 60)
    assert pipeline.loop.statistics.missed_share == pytest.approx(15 / 75)


def test_a_bad_reading_is_a_hold_and_the_next_good_set_resumes(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    feed(pipeline, 2 * STEP, wrench=WrenchReading(np.array([0.0, np.nan, 0.0]), np.zeros(3)))
    holding(recorder, "topic wrench holds a value that is not finite")
    feed(pipeline, 3 * STEP)
    answered(recorder, 2)
    settled(pipeline)
    assert pipeline.health() == (Level.OK, "commanding")


def test_the_timer_answers_the_newest_readings_whatever_their_stamps(
    build: Callable[..., Pipeline], recorder: Any
) -> None:
    pipeline = build(by_observation=False)
    for offset, (topic, reading) in enumerate(READINGS.items()):
        pipeline.receive(topic, STEP + offset, reading, STEP)
    assert recorder.commands == []
    pipeline.tick(STEP + 10)
    answered(recorder, 1)
    assert recorder.commands[0][1] == STEP + 2


def test_timer_ticks_without_an_answer_are_missed(build: Callable[..., Pipeline], policy: Any, recorder: Any) -> None:
    pipeline = build(by_observation=False)
    for step in (1, 2):  # nothing to be missed before the first command
        pipeline.tick(step * STEP)
    feed(pipeline, 3 * STEP)
    pipeline.tick(3 * STEP)
    answered(recorder, 1)
    before = pipeline.loop.statistics.summary()["missed_ticks"]  # the one that was answered, on a busy machine
    pipeline.tick(4 * STEP)  # the tick before was answered; this one has nothing new
    pipeline.tick(5 * STEP)
    assert pipeline.figures()["missed_ticks"] == before + 1
    assert len(recorder.commands) == 1


def test_an_observation_overtaken_by_a_newer_one_is_missed(
    build: Callable[..., Pipeline], policy: Any, recorder: Any
) -> None:
    pipeline = build()
    policy.gate.clear()
    feed(pipeline, STEP)
    assert policy.entered.wait(60.0)
    feed(pipeline, 10 * STEP)
    feed(pipeline, 20 * STEP)
    assert pipeline.figures()["missed_ticks"] == 1
    policy.gate.set()
    answered(recorder, 2)
    assert [stamp for _, stamp in recorder.commands] == [STEP, 20 * STEP]


def test_a_clock_that_falls_back_starts_anew(build: Callable[..., Pipeline], policy: Any, recorder: Any) -> None:
    pipeline = build()
    feed(pipeline, 100 * STEP)
    answered(recorder, 1)
    feed(pipeline, STEP)
    answered(recorder, 2)
    assert recorder.commands[-1][1] == STEP
    assert recorder.texts == ["the clock fell back; observations and action chunk are dropped"]


@pytest.mark.parametrize("waiting", [False, True])
def test_when_the_clock_falls_back_nothing_of_before_is_answered_and_nothing_goes_before_the_hold(
    build: Callable[..., Pipeline], policy: Any, recorder: Any, waiting: bool
) -> None:
    pipeline = build(simulated_time=True)
    feed(pipeline, 100 * STEP)
    answered(recorder, 1)
    policy.gate.clear()
    policy.entered.clear()
    feed(pipeline, 110 * STEP)
    assert policy.entered.wait(60.0)
    if waiting:
        feed(pipeline, 111 * STEP)  # in the mailbox
    pipeline.receive("wrench", STEP, READINGS["wrench"], STEP)  # the first topic of the new episode
    policy.gate.set()
    settled(pipeline)
    assert len(recorder.commands) == 1
    feed(pipeline, STEP)
    answered(recorder, 2)
    assert [stamp for _, stamp in recorder.commands] == [100 * STEP, 100 * STEP, STEP]
    assert recorder.commands[1][0] == [0.0, 0.0]


def test_a_field_that_the_contract_lets_hold_until_it_is_replaced_drops_the_chunk_when_it_changes(
    build: Callable[..., Pipeline], policy: Any, manifest_factory: Any, recorder: Any
) -> None:
    message = "std_msgs/msg/Float64MultiArray"
    policy.manifest = manifest_factory(
        observation=tuple(
            ObservationField(name=name, topic=name, message_type=message, extraction="data", size=1, unit="m")
            for name in ("speed", "target")
        )
    )
    fields = RobotContract.model_validate({"fields": {"target": {"max_age": None}}}).apply(policy.manifest)
    pipeline = build(simulated_time=True, fields=fields)
    for step, target in enumerate([0.1, 0.3, 0.3], start=1):
        pipeline.receive("target", step * STEP, VectorReading(np.array([target])), step * STEP)
        pipeline.receive("speed", step * STEP, VectorReading(np.zeros(1)), step * STEP)
        answered(recorder, step)
    assert [figures["inferred"] for figures in recorder.telemetry] == [1, 1, 0]
    np.testing.assert_allclose([observed[0, 1] for observed in policy.observations], [0.1, 0.3], rtol=1e-6)


def test_health_names_the_critic_that_failed_and_not_one_asked_for_since(
    build: Callable[..., Pipeline], policy: Any, recorder: Any
) -> None:
    pipeline = build()
    policy.critic_failed = 1.0
    feed(pipeline, STEP)
    answered(recorder, 1)
    recorder.wait(lambda r: "critic near failed; plain behaviour cloning acts instead" in r.texts)
    settled(pipeline)
    pipeline.loop.stage(RunOptions(0.5, "far", execution_horizon=1), reseed=False)
    assert pipeline.health() == (Level.WARN, "critic near failed; plain behaviour cloning acts instead")


def test_figures_hold_settings_and_statistics(build: Callable[..., Pipeline]) -> None:
    figures = build().figures()
    assert figures["critic"] == "near"
    assert figures["guidance_weight"] == 0.5
    assert figures["holding"] == 1
    assert figures["ticks"] == 0


def test_a_topic_of_another_clock_is_a_hold_that_says_so_until_it_is_of_this_one(
    build: Callable[..., Pipeline], recorder: Any
) -> None:
    pipeline = build()
    feed(pipeline, 10**9)
    answered(recorder, 1)
    now = 10**9 + 3600 * 10**9
    for topic, reading in READINGS.items():
        pipeline.receive(topic, now - (0 if topic == "wrench" else 180 * 10**9), reading, now)
    pipeline.watch(now)
    holding(recorder, "topic joint_states is stamped 180.000 s behind this node's clock on arrival")
    feed(pipeline, now + STEP)
    answered(recorder, 2)


def test_a_frozen_sensor_is_stale_and_not_of_another_clock(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall
) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    wall.now += 10.0
    feed(pipeline, STEP, now=STEP + 10 * 10**9)
    holding(recorder, "topic joint_states is stale, 10.000 s old")


@pytest.mark.parametrize("by_observation", [False, True])
@pytest.mark.parametrize("age", [0, 10 * 10**9])
def test_while_simulated_time_stands_at_0_nothing_is_commanded_and_the_hold_names_its_clock(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall, by_observation: bool, age: int
) -> None:
    pipeline = build(simulated_time=True, by_observation=by_observation)
    stamp = 1_795_000_000 * 10**9
    for k in range(20):  # one second: the clock may be a little late, and is not missed at once
        wall.now += 0.05
        feed(pipeline, stamp + k * STEP - age, now=0)
        if by_observation:
            pipeline.watch(0)
        assert bool(recorder.texts) == (wall.now >= 100.05 + 0.5)
    assert "holding: this node's time stands at 0 because nobody publishes /clock" in recorder.texts[0]
    assert pipeline.health()[1].startswith("holding: this node's time stands at 0")
    assert recorder.commands == []
    stamp += 10**9
    feed(pipeline, stamp, now=stamp)
    if not by_observation:
        pipeline.tick(stamp)
    answered(recorder, 1)
    assert recorder.commands[0][1] == stamp


def test_wall_stamps_in_simulated_time_are_a_hold_that_says_so(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build(simulated_time=True)
    feed(pipeline, 1_795_000_000 * 10**9, now=12 * 10**9)
    holding(recorder, "one of the two is simulated time; set use_sim_time alike")
    assert recorder.commands == []


def test_a_clock_that_jumps_ahead_is_a_hold_first_and_begins_anew(
    build: Callable[..., Pipeline], policy: Any, recorder: Any, wall: Wall
) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    wall.now += 0.05
    feed(pipeline, 100 * 10**9)
    answered(recorder, 2)
    assert [stamp for _, stamp in recorder.commands] == [STEP, STEP, 100 * 10**9]
    assert recorder.texts[0].startswith("the clock jumped ahead by 99.9")


def test_simulated_time_may_leap(build: Callable[..., Pipeline], recorder: Any, wall: Wall) -> None:
    pipeline = build(simulated_time=True)
    feed(pipeline, STEP)
    answered(recorder, 1)
    feed(pipeline, 100 * 10**9)
    answered(recorder, 2)
    assert recorder.texts == []


def test_a_stamp_that_is_repeated_fast_is_answered_once_a_period_of_wall_time(
    build: Callable[..., Pipeline], recorder: Any, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(pipeline_module.InferenceThread, "submit", lambda self, request: asked.append(wall.now))
    pipeline = build()
    for _ in range(16):  # 0.16 s at 20 Hz
        feed(pipeline, STEP)
        wall.now += 0.01
    assert len(asked) in (3, 4)
    assert all(later - earlier >= 0.05 for earlier, later in zip(asked, asked[1:]))
    wall.now += 0.5  # as a simulation in lockstep, which asks again
    feed(pipeline, STEP)
    assert len(asked) == 5


@pytest.mark.parametrize("motion", [True, False])
def test_in_doubt_nothing_is_sent_not_even_a_shadow_and_it_ends_by_itself(
    build: Callable[..., Pipeline], recorder: Any, motion: bool
) -> None:
    pipeline = build(motion=motion)
    sent = recorder.commands if motion else recorder.shadows
    feed(pipeline, STEP)
    answered(recorder, 1)
    pipeline.doubt("/joint_states is published by /one and /other")
    assert [stamp for _, stamp in sent] == [STEP, STEP]
    assert sent[-1][0] == [0.0, 0.0]
    feed(pipeline, 2 * STEP)
    settled(pipeline)
    assert pipeline.health() == (Level.ERROR, "holding: /joint_states is published by /one and /other")
    assert len(sent) == 2
    pipeline.doubt(None)
    feed(pipeline, 3 * STEP)
    answered(recorder, 2)
    assert sent[-1][1] == 3 * STEP


@pytest.mark.parametrize("trouble", ["stale", "rival", "callback"])
def test_a_fault_is_a_hold_while_inference_is_under_way_and_nothing_of_before_passes(
    build: Callable[..., Pipeline], policy: Any, recorder: Any, trouble: str
) -> None:
    pipeline = build()
    feed(pipeline, STEP)
    answered(recorder, 1)
    policy.gate.clear()
    policy.entered.clear()
    feed(pipeline, 10 * STEP)
    assert policy.entered.wait(60.0)
    feed(pipeline, 11 * STEP)  # in the mailbox
    if trouble == "stale":
        pipeline.watch(11 * STEP + 300_000_000)
    elif trouble == "rival":
        pipeline.block("/command is published by other")
    else:
        pipeline.fault("a callback failed")
    assert recorder.commands[1:] == [([0.0, 0.0], STEP)]
    pipeline.block(None)
    policy.gate.set()
    feed(pipeline, 20 * STEP)
    answered(recorder, 2)
    assert [stamp for _, stamp in recorder.commands] == [STEP, STEP, 20 * STEP]


def test_an_inference_in_the_background_that_hangs_is_what_the_watchdog_looks_at(
    build: Callable[..., Pipeline], policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = build()
    assert pipeline.watchdog.look()
    monkeypatch.setattr(type(pipeline._controller), "busy_for", 9.0)
    assert not pipeline.watchdog.look()
    assert pipeline.health() == (Level.ERROR, "inference has been running for 9.0 s")


def demonstrated(policy: Any, largest: float = 0.5) -> None:
    """Let the bundle have been trained on values from 0 to `largest`."""
    data = np.array([[0.0] * 6, [largest] * 6], dtype=np.float32)
    known = demonstrations_of(policy.manifest.observation, data, "made-up.npz")
    policy.manifest = policy.manifest.model_copy(update={"demonstrations": known})


def test_a_value_that_is_not_plausible_is_a_hold_until_it_is(
    build: Callable[..., Pipeline], policy: Any, recorder: Any
) -> None:
    demonstrated(policy)
    pipeline = build(supervision=Supervision(plausible_range=5.0))
    feed(pipeline, STEP)
    answered(recorder, 1)
    upright = np.array([0.0, 0.0, 0.0, 1.0])
    feed(pipeline, 2 * STEP, effector_pose=PoseReading(np.array([0.0, 0.0, 425.0]), upright))
    holding(recorder, "holding: field effector: topic effector_pose is not plausible: z is 425 m, plausible is ")
    assert recorder.commands[-1] == ([0.0, 0.0], STEP)
    degrees = JointReading(("shoulder", "elbow"), np.array([0.0, -90.0]), np.empty(0), np.empty(0))
    feed(pipeline, 3 * STEP, joint_states=degrees)
    holding(recorder, "holding: field angle: topic joint_states is not plausible: elbow is -90 rad")
    feed(pipeline, 4 * STEP)
    answered(recorder, 2)


def test_a_quaternion_that_is_no_rotation_is_a_hold_that_names_its_field(
    build: Callable[..., Pipeline], policy: Any, manifest_factory: Any, recorder: Any
) -> None:
    fields = list(policy.manifest.observation)
    fields[1] = fields[1].model_copy(update={"extraction": "quaternion_wxyz", "size": 4})
    policy.manifest = manifest_factory(observation=tuple(fields))
    pipeline = build()
    feed(pipeline, STEP, effector_pose=PoseReading(np.zeros(3), np.zeros(4)))
    holding(
        recorder, "holding: field effector: topic effector_pose gives a quaternion of length 0, which is no rotation"
    )
    assert recorder.commands == []
    feed(pipeline, 2 * STEP)
    answered(recorder, 1)


def test_what_the_data_never_reached_is_told_at_the_first_observation_and_in_the_figures(
    build: Callable[..., Pipeline], policy: Any, recorder: Any
) -> None:
    demonstrated(policy)
    pipeline = build(supervision=Supervision(plausible_range=5.0))
    assert pipeline.figures()["outside_demonstrations"] == ""
    far = JointReading(("shoulder", "elbow"), np.array([0.1, 0.81]), np.empty(0), np.empty(0))
    for step in (1, 2, 3):
        feed(pipeline, step * STEP, joint_states=far)
        answered(recorder, step)
    settled(pipeline)
    assert recorder.texts.count("outside the demonstrations: angle elbow by 0.31 rad") == 1
    assert pipeline.figures()["outside_demonstrations"] == "angle elbow by 0.31 rad"
    assert pipeline.health() == (Level.OK, "commanding")
    pipeline.close()
    pipeline.open()
    feed(pipeline, 4 * STEP)
    answered(recorder, 4)
    assert pipeline.figures()["outside_demonstrations"] == ""


def test_a_bundle_without_quantiles_says_so(build: Callable[..., Pipeline], recorder: Any) -> None:
    pipeline = build(supervision=Supervision(plausible_range=5.0))
    feed(pipeline, STEP, effector_pose=PoseReading(np.full(3, 1e30), np.array([0.0, 0.0, 0.0, 1.0])))
    answered(recorder, 1)
    assert pipeline.figures()["outside_demonstrations"] == (
        "unknown: the bundle keeps no quantiles of its training data"
    )
