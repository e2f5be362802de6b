"""What each kind of controller is sent: the maths against its definition, holds, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.command import Command
from qgf_ros.control.output_source import OutputSource
from qgf_ros.control.outputs import Output, quaternion_xyzw, wrapped
from qgf_ros.control.robot_contract import RobotContract
from qgf_ros.errors import ContractError

PERIOD = 50_000_000
BASE: dict[str, Any] = {"unit": "rad", "scale": 0.1, "lower": -0.1, "upper": 0.1}
#: Two displacements and a position, all of them measured.
STEP, BOXED, GRIP = "step", "boxed", "grip"


def manifest() -> Manifest:
    state = ObservationField(
        name="state", topic="s", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=3, unit="rad"
    )
    at = [Measurement(field="state", component=i) for i in range(3)]
    action = (
        ActionField(name=STEP, measured=at[0], **BASE),
        ActionField(name=BOXED, measured=at[1], workspace=(-1.0, 1.0), **BASE),
        ActionField(name=GRIP, measured=at[2], **{**BASE, "hold": None, "lower": 0.0, "upper": 0.8}),
        ActionField(name="blind", **BASE),
        ActionField(name="biased", measured=at[0], **{**BASE, "hold": 0.05}),
    )
    critic = CriticCard(task="t", discount=0.99, ensemble_size=2, recommended_weight=0.5)
    return Manifest(
        name="fake",
        observation=(state,),
        action=action,
        horizon=4,
        execution_horizon=2,
        control_rate=20.0,
        critics={"c": critic},
    )


def make(kind: str, fields: Any, **changes: Any) -> Output:
    given = {"type": kind, "topic": "t", "fields": fields, **changes}
    if kind == "twist_stamped":
        given = {"frame_id": "base", **given}
    return Output(OutputSource.model_validate(given), manifest())


def command(
    values: Any, tick: int = 0, measured: Any = (0.0,) * 5, upcoming: Any = (), begins: bool = False
) -> Command:
    return Command(
        values=np.array(values, dtype=np.float64),
        action=np.zeros(5, dtype=np.float32),
        stamp=tick * PERIOD,
        inferred=True,
        begins=begins,
        measured=np.array(measured, dtype=np.float64),
        upcoming=np.array(upcoming, dtype=np.float64).reshape(-1, 5),
    )


def values(step: float = 0.0, boxed: float = 0.0, grip: float = 0.0) -> list[float]:
    return [step, boxed, grip, 0.0, 0.05]


def sent(output: Output, *args: Any, **kwargs: Any) -> Any:
    return output.command(command(*args, **kwargs)).values.tolist()


def held(output: Output, hold: list[float], periods: float = 1.0, since: int = 0) -> Any:
    """Return what a hold sends, a number of control periods after the tick `since`."""
    stamp = since * PERIOD
    message = output.hold(np.array(hold), stamp, stamp + round(periods * PERIOD))
    assert message is not None
    return message.values.tolist()


def test_a_controller_gets_its_fields_in_its_order_with_scale_and_offset_last() -> None:
    output = make("float64_multi_array", [GRIP, STEP], scale=[100.0, -1.0], offset=[-5.0, 0.0])
    assert sent(output, values(step=0.02, grip=0.3)) == [pytest.approx([25.0, -0.02])]
    assert output.describe() == ("grip [rad * 100 - 5]", "step [rad * -1]")
    assert output.hold(np.array(values(grip=0.3)), 7, 8).stamp == 7


def test_a_plain_joint_state_is_the_command_to_the_bit() -> None:
    (output,) = RobotContract().outputs(manifest())
    random = np.random.default_rng(0).normal(size=5)
    random[1] = -0.0
    assert output.command(command(random)).values.tobytes() == random.tobytes()


def test_a_twist_is_the_displacement_over_the_control_period_and_a_hold_is_no_velocity() -> None:
    output = make("twist_stamped", {STEP: "angular.z"}, scale=0.5)
    assert sent(output, values(step=0.02)) == [pytest.approx([0.5 * 0.02 * 20.0])]
    assert output.describe() == ("angular.z [rad/s * 0.5]",)
    assert held(output, values()) == [[0.0]]


def test_measured_positions_start_anew_from_the_robot_at_every_command() -> None:
    output = make("joint_state", [STEP], integrate="measured")
    assert sent(output, values(step=0.05), measured=[1.0, 0, 0, 0, 0], begins=True) == [pytest.approx([1.05])]
    assert sent(output, values(step=0.05), 1, measured=[1.01, 0, 0, 0, 0]) == [pytest.approx([1.06])]
    assert held(output, values(), since=1) == [pytest.approx([1.06])]  # where it was sent, not back to where it was


def test_commanded_positions_add_up_from_where_the_robot_was_first_and_again_after_a_hold() -> None:
    output = make("joint_state", [STEP], integrate="commanded")
    assert sent(output, values(step=0.05), measured=[1.0, 0, 0, 0, 0], begins=True) == [pytest.approx([1.05])]
    assert sent(output, values(step=0.05), 1, measured=[0.0, 0, 0, 0, 0]) == [pytest.approx([1.1])]
    assert held(output, values(), since=1) == [pytest.approx([1.1])]
    # Moved by hand while it was held:
    assert sent(output, values(step=0.05), 9, measured=[3.0, 0, 0, 0, 0], begins=True) == [pytest.approx([3.05])]


@pytest.mark.parametrize("integrate", ["measured", "commanded"])
def test_positions_stay_in_the_workspace_and_do_not_wind_up(integrate: str) -> None:
    output = make("joint_state", [BOXED], integrate=integrate)
    at = [0.0, 0.98, 0.0, 0.0, 0.0]
    for tick in range(5):
        (position,) = sent(output, values(boxed=0.1), tick, measured=at, begins=tick == 0)
        assert position == [1.0]
    assert sent(output, values(boxed=-0.1), 5, measured=[0, 1.0, 0, 0, 0]) == [pytest.approx([0.9])]


@given(
    start=st.floats(-3.0, 3.0),
    steps=arrays(np.float64, 20, elements=st.floats(-0.1, 0.1)),
    integrate=st.sampled_from(["measured", "commanded"]),
)
def test_from_anywhere_no_position_leads_farther_out_of_the_workspace(start: float, steps: Any, integrate: str) -> None:
    output, place = make("joint_state", [BOXED], integrate=integrate), start
    for tick, step in enumerate(steps):
        (position,) = output.command(
            command(values(boxed=step), tick, measured=[0, place, 0, 0, 0], begins=tick == 0)
        ).values[0]
        outside = max(-1.0 - position, position - 1.0, 0.0)
        assert outside <= max(-1.0 - place, place - 1.0, 0.0)
        assert abs(position - place) <= abs(step) + 1e-12
        place = position


@given(
    steps=arrays(np.float64, (4, 5), elements=st.floats(-0.1, 0.1)),
    start=st.floats(-2.0, 2.0),
    scale=st.floats(-100.0, 100.0).filter(lambda value: abs(value) > 1e-3),
    offset=st.floats(-10.0, 10.0),
)
def test_a_trajectory_is_the_sum_of_all_displacements_up_to_each_point(
    steps: Any, start: float, scale: float, offset: float
) -> None:
    output = make("joint_trajectory", [STEP], integrate="commanded", scale=scale, offset=offset)
    points = output.command(command(steps[0], measured=[start] * 5, upcoming=steps[1:], begins=True)).values
    np.testing.assert_allclose(points[:, 0], scale * (start + np.cumsum(steps[:, 0])) + offset, rtol=1e-9, atol=1e-9)


def test_a_trajectory_of_positions_is_the_command_and_what_is_upcoming() -> None:
    output = make("joint_trajectory", [GRIP])
    points = output.command(command(values(grip=0.1), 3, upcoming=[values(grip=0.2), values(grip=0.3)]))
    assert points.values[:, 0].tolist() == [0.1, 0.2, 0.3]
    assert points.stamp == 3 * PERIOD


@given(
    points=arrays(np.float64, (4, 5), elements=st.floats(-1.0, 1.0)),
    scale=st.floats(-100.0, 100.0).filter(lambda value: abs(value) > 1e-3),
)
def test_a_trajectory_passes_each_point_at_the_difference_to_the_next_and_rests_at_the_last(
    points: Any, scale: float
) -> None:
    output = make("joint_trajectory", [GRIP], scale=scale, offset=3.0)
    trajectory = output.command(command(points[0], upcoming=points[1:]))
    assert trajectory.velocities is not None
    expected = [*np.diff(trajectory.values[:, 0]) * 20.0, 0.0]
    np.testing.assert_allclose(trajectory.velocities[:, 0], expected, rtol=1e-9, atol=1e-9)


def test_a_held_trajectory_ends_at_rest_and_only_a_trajectory_has_velocities() -> None:
    output = make("joint_trajectory", [GRIP])
    output.command(command(values(grip=0.1), upcoming=[values(grip=0.2)]))
    hold = output.hold(np.array(values(grip=0.1)), 0, PERIOD)
    assert hold is not None
    assert hold.velocities is not None
    assert hold.velocities.tolist() == [[0.0]]
    assert make("joint_state", [GRIP]).command(command(values())).velocities is None


@given(
    start=st.floats(-1.0, 1.0),
    steps=arrays(np.float64, 6, elements=st.floats(-0.1, 0.1)),
    place=st.floats(0.0, 1.0),
)
def test_between_two_points_a_spline_leaves_their_rates_by_a_third_of_the_change_of_rate_at_most(
    start: float, steps: Any, place: float
) -> None:
    """What docs/safety.md says of a controller that splines: of its speed, and so of what limits bound."""
    path = start + np.cumsum(steps)
    output = make("joint_trajectory", [GRIP])
    rows = np.zeros((6, 5))
    rows[:, 2] = path
    trajectory = output.command(command(rows[0], upcoming=rows[1:]))
    assert trajectory.velocities is not None
    rates = trajectory.velocities[:, 0]
    for k in range(5):  # the cubic through two points with their velocities, differentiated
        rise, (first, last) = (path[k + 1] - path[k]) * 20.0, rates[k : k + 2]
        s = place
        rate = 6 * (s - s**2) * rise + (1 - 4 * s + 3 * s**2) * first + (3 * s**2 - 2 * s) * last
        slack = abs(last - first) / 3 + 1e-9
        assert min(first, last) - slack <= rate <= max(first, last) + slack


@pytest.mark.parametrize(
    ("periods", "place"), [(-1.0, 0.1), (0.0, 0.1), (0.4, 0.1), (1.0, 0.1), (1.4, 0.2), (2.9, 0.3), (60.0, 0.3)]
)
def test_a_held_trajectory_ends_at_the_next_point_and_never_goes_back(periods: float, place: float) -> None:
    output = make("joint_trajectory", [GRIP])
    output.command(command(values(grip=0.1), upcoming=[values(grip=0.2), values(grip=0.3)]))
    hold = output.hold(np.array(values(grip=0.1)), 7, round(periods * PERIOD))
    assert hold is not None
    assert hold.values.tolist() == [[place]]
    assert hold.stamp == 0  # begins on arrival, however long ago the last observation was


def test_a_held_trajectory_goes_no_farther_when_it_is_held_again() -> None:
    output = make("joint_trajectory", [GRIP])
    output.command(command(values(grip=0.1), upcoming=[values(grip=0.2), values(grip=0.3)]))
    assert [held(output, values(grip=0.1), periods) for periods in (1.4, 2.4, 9.0)] == [[[0.2]]] * 3


def test_a_trajectory_of_a_robot_that_stands_leads_back_to_it_and_is_held_there() -> None:
    output = make("joint_trajectory", [GRIP])
    output.command(command(values(grip=0.4), upcoming=[values(grip=0.5), values(grip=0.6)]))
    for place in (0.3, 0.2, 0.1):
        back = replace(command(values(grip=place)), braking=True, led_back=True)
        sent = output.lead_back(back, round(1.4 * PERIOD))
        assert sent is not None
        assert (sent.values.tolist(), sent.stamp) == ([[place]], 0)  # due a period after its arrival
        assert sent.velocities is not None
        assert not sent.velocities.any()
    assert [held(output, values(grip=0.1), periods) for periods in (1.4, 9.0)] == [[[0.1]]] * 2


def test_positions_are_led_back_as_they_are_and_a_gripper_that_switches_keeps_what_it_has() -> None:
    joint = make("float64_multi_array", [GRIP])
    gripper = make("float64_multi_array", [GRIP], hysteresis={"above": 0.6, "below": 0.4})
    closed = []
    for output in (joint, gripper):
        output.command(command(values(grip=0.9), begins=True))
        back = replace(command(values(grip=0.1)), braking=True, led_back=True)
        sent = output.lead_back(back, PERIOD)
        assert sent is not None
        closed.append(sent.values[0, 0] > 0.5)
    assert closed == [False, True]


def test_a_trajectory_of_displacements_goes_on_from_where_the_controller_has_come_meanwhile() -> None:
    output = make("joint_trajectory", [STEP], integrate="commanded")
    ahead = [values(step=0.1), values(step=0.1)]
    output.command(command(values(step=0.1), 0, upcoming=ahead, begins=True))
    points = output.command(command(values(step=0.1), 2, upcoming=ahead[:1]))  # tick 1 was skipped, its motion was not
    assert points.values[:, 0] == pytest.approx([0.3, 0.4])


@pytest.mark.parametrize(
    ("kind", "fields", "changes", "points"),
    [
        ("joint_state", [GRIP], {}, 1),
        ("float64_multi_array", [STEP, GRIP], {}, 1),
        ("float64_multi_array", [STEP], {"integrate": "measured"}, 1),
        ("joint_trajectory", [STEP], {"integrate": "commanded"}, 3),
        ("joint_trajectory", [GRIP], {}, 3),
    ],
)
def test_a_robot_that_may_have_been_moved_is_not_called_back_once_all_that_was_sent_is_carried_out(
    kind: str, fields: Any, changes: dict[str, Any], points: int
) -> None:
    output = make(kind, fields, **changes)
    ahead = [values(grip=0.2), values(grip=0.3)]
    output.command(command(values(grip=0.1), upcoming=ahead, begins=True))
    hold = np.array(values(grip=0.1))
    assert output.hold(hold, 0, points * PERIOD, moved=True) is not None
    assert output.hold(hold, 0, points * PERIOD + 1, moved=True) is None


@pytest.mark.parametrize(("kind", "fields"), [("twist_stamped", {STEP: "linear.x"}), ("joint_state", [STEP, BOXED])])
def test_what_is_no_position_is_held_wherever_the_robot_is(kind: str, fields: Any) -> None:
    output = make(kind, fields)
    output.command(command(values(step=0.1), begins=True))
    hold = output.hold(np.array(values()), 0, 3600 * PERIOD, moved=True)
    assert hold is not None
    assert not hold.values.any()


def test_positions_that_were_never_sent_are_not_held() -> None:
    hold = np.array(values())
    assert make("joint_state", [STEP], integrate="commanded").hold(hold, 0, 0) is None
    assert make("joint_trajectory", [GRIP]).hold(hold, 0, 0) is None


POSE: dict[str, Any] = {"frame_id": "base", "fixed": {"z": 0.2, "roll": np.pi, "pitch": 0.0}}


def pose(fields: Any, **changes: Any) -> Output:
    return make("pose_stamped", fields, **{**POSE, **changes})


@given(angle=st.floats(-1e4, 1e4))
def test_an_angle_of_a_pose_is_wrapped_and_stays_the_same_rotation(angle: float) -> None:
    (turned,) = wrapped(np.array([angle]))
    assert -np.pi < turned <= np.pi
    assert np.cos(turned) == pytest.approx(np.cos(angle), abs=1e-9)
    assert np.sin(turned) == pytest.approx(np.sin(angle), abs=1e-9)
    if -np.pi < angle <= np.pi:
        assert turned == angle


@pytest.mark.parametrize("angle", [-np.pi, np.pi, np.nextafter(np.pi, 4.0), np.nextafter(-np.pi, -4.0), 3.0 * np.pi])
def test_half_a_turn_is_pi_whichever_way(angle: float) -> None:
    assert wrapped(np.array([angle]))[0] == pytest.approx(np.pi, abs=1e-12)


@given(angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
def test_a_quaternion_of_a_pose_turns_as_roll_pitch_and_yaw_one_after_the_other(angles: Any) -> None:
    x, y, z, w = quaternion_xyzw(*angles)
    assert np.hypot.reduce([x, y, z, w]) == pytest.approx(1.0)
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    np.testing.assert_allclose(turned, about_z @ about_y @ about_x, atol=1e-12)


def test_a_pose_is_the_tool_moved_and_its_angle_wraps_although_it_adds_up() -> None:
    output = pose(
        {STEP: "yaw", BOXED: "x"}, integrate="commanded", fixed={"y": 0.1, "z": 0.2, "roll": 0.0, "pitch": 0.0}
    )
    at = [3.1, 0.5, 0.0, 0.0, 0.0]
    assert sent(output, values(step=0.1, boxed=0.02), measured=at, begins=True) == [
        pytest.approx([3.2 - 2 * np.pi, 0.52])
    ]
    assert sent(output, values(step=0.1, boxed=0.02), 1) == [pytest.approx([3.3 - 2 * np.pi, 0.54])]
    assert held(output, values(), since=1) == [pytest.approx([3.3 - 2 * np.pi, 0.54])]
    assert output.converts
    absolute = pose({GRIP: "yaw"}, scale=10.0, fixed={"x": 0.4, "y": 0.1, "z": 0.2, "roll": 0.0, "pitch": 0.0})
    assert sent(absolute, values(grip=0.4)) == [pytest.approx([4.0 - 2 * np.pi])]


@pytest.mark.parametrize(
    ("fields", "changes", "complaint"),
    [
        ({GRIP: "x"}, {"frame_id": ""}, "has no frame_id; name the frame of its poses"),
        ({GRIP: "linear.x"}, {}, "field grip: sent as linear.x, expected one of x, y, z, roll, pitch, yaw"),
        (
            {GRIP: "x"},
            {},
            "says nothing of y, yaw; send fields as these, or give them by fixed, such as fixed: {y: 0.0}",
        ),
        ({GRIP: "z"}, {}, "z is both a field and fixed; leave one of them out"),
        ({STEP: "x"}, {}, "field step: a pose is made of positions, and this is a displacement; set integrate"),
        ({GRIP: "x"}, {"hysteresis": {"above": 0.5, "below": 0.3}}, "hysteresis makes two positions of all"),
    ],
)
def test_a_pose_that_says_too_little_or_too_much_is_refused(fields: Any, changes: Any, complaint: str) -> None:
    with pytest.raises(ContractError) as refused:
        pose(fields, **changes)
    assert complaint in str(refused.value)


SWITCH = {"above": 0.5, "below": 0.3, "dwell": 0.5}


def switched(commands: Any, stamps: Any, **changes: Any) -> list[float]:
    """Return what a gripper with hysteresis is sent for commands at stamps [ns]."""
    output = make("float64_multi_array", [GRIP], hysteresis={**SWITCH, **changes})
    given = (replace(command(values(grip=value)), stamp=int(stamp)) for value, stamp in zip(commands, stamps))
    return [output.command(each).values[0, 0] for each in given]


@given(
    commands=st.lists(st.floats(0.0, 0.8), min_size=1, max_size=60),
    gaps=st.lists(st.integers(0, 300_000_000), min_size=60, max_size=60),
    dwell=st.floats(0.0, 2.0),
)
def test_a_gripper_switches_once_per_dwell_at_most_and_only_beyond_a_threshold(
    commands: list[float], gaps: list[int], dwell: float
) -> None:
    stamps = np.cumsum(gaps[: len(commands)])
    sent = switched(commands, stamps, dwell=dwell)
    assert set(sent) <= {0.0, 0.8}
    switches = [k for k in range(1, len(sent)) if sent[k] != sent[k - 1]]
    assert all(commands[k] > 0.5 if sent[k] else commands[k] < 0.3 for k in switches)
    apart = np.diff(stamps[[0, *switches]])
    assert (apart >= round(dwell * 1e9)).all()


@given(value=st.floats(0.0, 0.8), ticks=st.integers(1, 60), measured=st.sampled_from([0.0, 0.35, 0.45, 0.8]))
def test_a_constant_command_gives_a_constant_output(value: float, ticks: int, measured: float) -> None:
    output = make("float64_multi_array", [GRIP], hysteresis=SWITCH)
    place = [0.0, 0.0, measured, 0.0, 0.0]
    sent = {
        output.command(command(values(grip=value), k, measured=place, begins=k == 0)).values[0, 0] for k in range(ticks)
    }
    assert sent == {0.8 if value > 0.5 or (value >= 0.3 and measured > 0.4) else 0.0}


@given(commands=st.lists(st.floats(0.3, 0.5), min_size=1, max_size=60))
def test_between_the_thresholds_nothing_switches(commands: list[float]) -> None:
    assert len(set(switched(commands, range(len(commands)), dwell=0.0))) == 1


def test_a_switch_that_came_too_early_is_made_up_for_once_the_dwell_is_over() -> None:
    sent = switched([0.0, 0.8, 0.8, 0.8], [0, 4e8, 5e8, 6e8], positions=[0.1, 0.7])
    assert sent == [0.1, 0.1, 0.7, 0.7]


def test_after_a_hold_a_gripper_goes_by_where_it_is_measured_and_a_clock_that_fell_back_counts_anew() -> None:
    output = make("float64_multi_array", [GRIP], hysteresis=SWITCH)
    at = [0.0, 0.0, 0.8, 0.0, 0.0]
    assert sent(output, values(grip=0.4), 0, measured=at, begins=True) == [[0.8]]
    assert sent(output, values(grip=0.4), 20) == [[0.8]]
    assert sent(output, values(grip=0.4), 40, begins=True) == [[0.0]]  # somebody closed it meanwhile
    assert sent(output, values(grip=0.8), 2) == [[0.0]]  # the clock fell back by 38 ticks
    assert sent(output, values(grip=0.8), 11) == [[0.0]]
    assert sent(output, values(grip=0.8), 12) == [[0.8]]


def test_a_hold_keeps_the_position_that_was_switched_to_and_none_before_the_first_command() -> None:
    output = make("float64_multi_array", [GRIP], hysteresis=SWITCH, scale=100.0)
    assert output.hold(np.array(values(grip=0.4)), 0, 0) is None
    output.command(command(values(grip=0.6), begins=True))
    assert held(output, values(grip=0.6)) == [[80.0]]
    assert output.converts
    assert output.hold(np.array(values(grip=0.6)), 0, 2 * PERIOD, moved=True) is None


def test_displacements_add_up_before_they_switch() -> None:
    output = make("joint_state", [BOXED], integrate="commanded", hysteresis={"above": 0.15, "below": -0.15, "dwell": 0})
    steps = [0.1, 0.1, -0.1, -0.1, -0.1, -0.1]
    assert [sent(output, values(boxed=s), k, begins=k == 0)[0][0] for k, s in enumerate(steps)] == [
        *(-1.0, 1.0, 1.0, 1.0, 1.0, -1.0)
    ]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"hysteresis": {**SWITCH, "below": 0.5}}, "field grip: hysteresis above 0.5 is not more than below 0.5"),
        ({"hysteresis": {**SWITCH, "above": 0.8}}, "below 0.3 and above 0.8 were given, expected both inside 0 to 0.8"),
        ({"hysteresis": {**SWITCH, "positions": [0.8, 0.0]}}, "expected the lower before the upper"),
        ({"hysteresis": {**SWITCH, "positions": [0.0, 1.0]}}, "expected both within the limits, 0 to 0.8"),
        ({"hysteresis": SWITCH, "fields": [STEP]}, "field step: hysteresis is for positions, and this is a displace"),
        (
            {"hysteresis": SWITCH, "fields": [STEP], "integrate": "measured"},
            "field step: a displacement has no position of its own to switch to",
        ),
        ({"hysteresis": SWITCH, "type": "joint_trajectory"}, "field grip: hysteresis makes two positions of all"),
        ({"type": "gripper_command"}, "a gripper_command takes one field, with hysteresis"),
        (
            {"type": "gripper_command", "hysteresis": SWITCH, "fields": [GRIP, BOXED]},
            "takes one field, with hysteresis",
        ),
        ({"type": "gripper_command", "hysteresis": SWITCH, "topic": None}, "has no topic"),
        ({"max_effort": 10.0}, "max_effort is for gripper_command; leave it out"),
    ],
)
def test_hysteresis_that_does_not_fit_is_refused_with_its_numbers(changes: dict[str, Any], complaint: str) -> None:
    given = {"type": "joint_state", "topic": "t", "fields": [GRIP], **changes}
    with pytest.raises(ContractError) as refused:
        Output(OutputSource.model_validate(given), manifest())
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"fields": ["leg"]},
            "output joint_state on t takes leg, but the actions of bundle fake are step, boxed, grip",
        ),
        ({"fields": []}, "has no fields"),
        ({"fields": {STEP: "a", GRIP: "a"}}, "sends two fields as one name of a, a"),
        ({"type": "float64_multi_array", "topic": None}, "output float64_multi_array on command has no topic"),
        ({"scale": [1.0, 2.0]}, "scale has 2 values, expected 1 or 1"),
        ({"offset": []}, None),
        ({"scale": 0.0}, "scale 0 was given"),
        ({"offset": 0.5}, "field step: offset 0.5 would move the robot when it is held"),
        ({"frame_id": "base"}, "frame_id is for twist_stamped and pose_stamped"),
        ({"fixed": {"x": 0.0}}, "fixed is for pose_stamped; leave it out"),
        ({"type": "twist_stamped", "fields": {STEP: "linear.x"}}, "has no frame_id"),
        ({"type": "twist_stamped", "frame_id": "b"}, "field step: sent as step, expected one of linear.x, linear.y"),
        (
            {"type": "twist_stamped", "frame_id": "b", "fields": {GRIP: "linear.x"}},
            "field grip: a twist takes displace",
        ),
        (
            {"type": "twist_stamped", "frame_id": "b", "fields": {STEP: "linear.x"}, "integrate": "measured"},
            "integrates nothing",
        ),
        (
            {"type": "twist_stamped", "frame_id": "b", "fields": {"biased": "linear.x"}},
            "field biased: its hold is 0.05",
        ),
        (
            {"integrate": "measured", "fields": [GRIP]},
            "field grip: integrate is for displacements, and this is a position",
        ),
        ({"integrate": "measured", "fields": ["biased"]}, "field biased: its hold is 0.05"),
        ({"integrate": "commanded", "fields": ["blind"]}, "field blind: where it is must be measured"),
        ({"type": "joint_trajectory"}, "field step: a trajectory is made of positions, and this is a displacement"),
    ],
)
def test_what_does_not_fit_is_refused_with_output_and_field(changes: dict[str, Any], complaint: str | None) -> None:
    given = {"topic": "t", "fields": [STEP], **changes}
    if complaint is None:
        with pytest.raises(ValueError, match="at least 1 item"):
            OutputSource.model_validate(given)
        return
    with pytest.raises(ContractError) as refused:
        Output(OutputSource.model_validate(given), manifest())
    assert complaint in str(refused.value)


def contract(*outputs: dict[str, Any]) -> RobotContract:
    return RobotContract.model_validate({"command": outputs})


def test_without_a_word_every_action_goes_to_one_joint_state() -> None:
    (output,) = RobotContract().outputs(manifest())
    assert (output.source.type, output.topic) == ("joint_state", "command")
    assert output.names == (STEP, BOXED, GRIP, "blind", "biased")


def test_every_action_must_be_taken_and_every_topic_be_one_outputs_own() -> None:
    rest = {"topic": "rest", "fields": [BOXED, GRIP, "blind", "biased"]}
    assert len(contract({"topic": "a", "fields": [STEP]}, rest).outputs(manifest())) == 2
    with pytest.raises(ContractError, match="action step is taken by no output of the contract"):
        contract(rest).outputs(manifest())
    with pytest.raises(ContractError, match="output joint_state on /rest shares its topic"):
        contract({"topic": "/rest", "fields": [STEP]}, rest).outputs(manifest())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_factors_are_bounded_so_that_every_product_of_them_is_a_number(sign: float) -> None:
    assert OutputSource.model_validate({"type": "joint_state", "scale": sign * 1e9}).scale == (sign * 1e9,)
    with pytest.raises(ValidationError, match="scale"):
        OutputSource.model_validate({"type": "joint_state", "scale": sign * 1.000001e9})


@pytest.mark.parametrize(
    ("source", "shadow"),
    [
        ({"type": "joint_state"}, "~/shadow_command"),
        ({"type": "joint_state", "topic": "/arm/joints"}, "~/shadow/arm/joints"),
        ({"type": "float64_multi_array", "topic": "command"}, "~/shadow/command"),
        ({"type": "float64_multi_array", "topic": "~/commands"}, "~/shadow/commands"),
    ],
)
def test_shadows_go_to_a_topic_of_the_node_s_own(source: dict[str, Any], shadow: str) -> None:
    assert OutputSource.model_validate(source).shadow == shadow
