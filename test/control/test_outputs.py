"""What each kind of controller is sent: the maths against its definition, holds, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.command import Command
from qgf_ros.control.outputs import Output, OutputSource
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
        ({"frame_id": "base"}, "frame_id is for twist_stamped"),
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
