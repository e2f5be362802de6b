"""When a set of readings is complete."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading
from qgf_ros.errors import ObservationError
from qgf_ros.loop.intake import ControlPeriods, ObservationIntake

SECOND = 1_000_000_000
READINGS: dict[str, Reading] = {
    "joint_states": JointReading(("shoulder", "elbow"), np.zeros(2), np.empty(0), np.empty(0)),
    "effector_pose": PoseReading(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])),
    "wrench": WrenchReading(np.zeros(3), np.zeros(3)),
}
J, E, W = READINGS


def make(manifest: Any, *, simulated: bool = False) -> ObservationIntake:
    return ObservationIntake(manifest.observation, 0.05, simulated_time=simulated, backward_jump=0.05)


def completions(intake: ObservationIntake, *arrivals: tuple[str, int]) -> list[bool]:
    return [intake.receive(topic, stamp, READINGS[topic]) for topic, stamp in arrivals]


def test_a_set_completes_once_with_its_last_topic_in_any_order(manifest: Any) -> None:
    intake = make(manifest)
    assert completions(intake, (W, 5), (J, 5), (E, 5)) == [False, False, True]
    assert completions(intake, (J, 6), (E, 6), (W, 6)) == [False, False, True]


def test_each_full_repetition_of_a_set_completes_once(manifest: Any) -> None:
    intake = make(manifest)
    completions(intake, (J, 5), (E, 5), (W, 5))
    assert completions(intake, (J, 5), (E, 5), (W, 5), (J, 5)) == [False, False, True, False]


def test_a_lost_message_is_made_up_for_by_the_repetition(manifest: Any) -> None:
    intake = make(manifest)
    assert completions(intake, (J, 5), (W, 5), (J, 5), (E, 5)) == [False, False, False, True]


def test_a_set_left_incomplete_by_a_newer_stamp_never_completes(manifest: Any) -> None:
    intake = make(manifest)
    assert completions(intake, (J, 5), (E, 5), (J, 6), (W, 5), (E, 6), (W, 6)) == [False] * 5 + [True]


def test_the_gap_is_described(manifest: Any) -> None:
    intake = make(manifest)
    completions(intake, (J, SECOND))
    assert intake.describe_gap() == "nothing received yet on topic effector_pose, wrench"
    completions(intake, (E, SECOND), (W, 2 * SECOND))
    assert "joint_states by 1.000 s, effector_pose by 1.000 s" in intake.describe_gap()
    completions(intake, (J, 2 * SECOND), (E, 2 * SECOND))
    assert intake.describe_gap() == "every topic waits for its next message"


def test_simulated_time_lets_a_message_overtake_its_clock_and_wall_time_does_not(manifest: Any) -> None:
    arrivals = [(topic, 2 * SECOND) for topic in READINGS]
    ahead = make(manifest, simulated=True)
    completions(ahead, *arrivals)
    assert ahead.collect(SECOND).stamp == 2 * SECOND
    strict = make(manifest)
    completions(strict, *arrivals)
    with pytest.raises(ObservationError, match="in the future"):
        strict.collect(SECOND)


def test_a_clock_that_falls_back_forgets_the_readings(manifest: Any) -> None:
    intake = make(manifest)
    assert not intake.clock_restarted(10 * SECOND)
    completions(intake, *[(topic, 10 * SECOND) for topic in READINGS])
    assert not intake.clock_restarted(10 * SECOND - 40_000_000)  # less than a control period
    assert intake.clock_restarted(SECOND)
    with pytest.raises(ObservationError, match="nothing received"):
        intake.collect(SECOND)
    assert completions(intake, *[(topic, SECOND) for topic in READINGS])[-1]


def test_a_reading_from_the_future_is_refused_once_and_then_forgotten(manifest: Any) -> None:
    """It would hide the sound readings after it, and in an hour pass for a fresh one."""
    intake = make(manifest)
    completions(intake, (J, SECOND), (E, 3600 * SECOND), (W, SECOND))
    with pytest.raises(ObservationError, match="topic effector_pose is stamped 3599.000 s in the future"):
        intake.collect(SECOND)
    with pytest.raises(ObservationError, match="nothing received yet on topic effector_pose"):
        intake.collect(SECOND)
    assert completions(intake, (J, 2 * SECOND), (E, 2 * SECOND), (W, 2 * SECOND)) == [False, False, True]
    assert intake.collect(2 * SECOND).stamp == 2 * SECOND


def test_in_simulated_time_what_is_from_before_the_clock_fell_back_is_forgotten(manifest: Any) -> None:
    """It came late, after the clock: the readings that follow would be ignored until time has caught up."""
    intake = make(manifest, simulated=True)
    completions(intake, (J, SECOND), (E, 3600 * SECOND), (W, SECOND))
    with pytest.raises(ObservationError, match="nothing received yet on topic effector_pose"):
        intake.collect(SECOND)
    completions(intake, (E, SECOND))
    assert intake.collect(SECOND).stamp == SECOND


def joints(*names: str) -> JointReading:
    return JointReading(names, np.zeros(len(names)), np.empty(0), np.empty(0))


@pytest.mark.parametrize("pose_first", [False, True])
def test_joints_in_two_messages_complete_a_set_with_the_last_of_them_once_for_each_repetition(
    manifest: Any, pose_first: bool
) -> None:
    intake = make(manifest)
    others = [(topic, READINGS[topic]) for topic in (E, W)]
    arm = [(J, joints("shoulder")), (J, joints("elbow"))]
    order = [*others, *arm] if pose_first else [*arm, *others]
    for topic, reading in order:  # the first time, which joints there are is not known yet
        intake.receive(topic, SECOND, reading)
    for stamp in (2 * SECOND, 3 * SECOND):
        assert [intake.receive(topic, stamp, reading) for topic, reading in order] == [False] * 3 + [True]
        assert intake.collect(stamp).stamp == stamp
    repeated = [intake.receive(topic, 3 * SECOND, reading) for _ in range(3) for topic, reading in order]
    assert sum(repeated) == 3


def test_joints_of_other_stamps_leave_a_set_incomplete_and_the_gap_says_so(manifest: Any) -> None:
    intake = make(manifest)
    for stamp in (SECOND, 2 * SECOND, 3 * SECOND):
        intake.receive(J, stamp - 10_000_000, joints("elbow"))
        assert not intake.receive(J, stamp, joints("shoulder"))
        done = completions(intake, (E, stamp), (W, stamp))
    assert done == [False, False]
    assert intake.describe_gap().startswith(
        "stamps differ between the joints of topic joint_states; publish all of them"
    )


def test_messages_about_other_joints_neither_complete_nor_break_a_set(manifest: Any) -> None:
    intake = make(manifest)
    completions(intake, (J, SECOND))
    assert not intake.receive(J, 2 * SECOND, joints("wheel"))
    assert completions(intake, (E, SECOND), (W, SECOND)) == [False, True]


def test_a_doubt_keeps_observations_from_being_made_until_it_is_taken_back(manifest: Any) -> None:
    intake = make(manifest)
    completions(intake, (J, SECOND), (E, SECOND), (W, SECOND))
    intake.doubt = "too many publishers"
    intake.clear()
    completions(intake, (J, SECOND), (E, SECOND), (W, SECOND))
    with pytest.raises(ObservationError, match="too many publishers"):
        intake.collect(SECOND)
    intake.doubt = None
    assert intake.collect(SECOND).stamp == SECOND


def test_after_a_restart_control_periods_begin_with_whatever_comes_next_and_go_on_from_there() -> None:
    periods = ControlPeriods(0.05)
    step = 50_000_000
    assert [periods.begins(k * step, 0.0) for k in (100, 101)] == [True, True]
    periods.restart()  # the clock fell back
    assert [periods.begins(k * step // 2, 0.0) for k in (2, 3, 4, 5, 6)] == [True, False, True, False, True]
    periods.restart()  # and went ahead
    assert [periods.begins(k * step // 2, 0.0) for k in (900, 901, 902)] == [True, False, True]
