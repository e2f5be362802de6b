"""The safety envelope: no command leaves its limits, and a hold stops the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.limit_overrides import check_limited, manifest_with_limits
from qgf_ros.control.observation import MeasuredValues
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.errors import SafetyError


def action(name: str = "x", **changes: Any) -> ActionField:
    return ActionField(**{"name": name, "unit": "m", "scale": 2.0, "lower": -1.0, "upper": 1.5, **changes})


def act(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_an_action_is_scaled_in_double_precision() -> None:
    envelope = SafetyEnvelope([action(scale=0.05), action("y", scale=0.3)], 0.05)
    expected = act(0.1, -0.7).astype(np.float64) * [0.05, 0.3]
    command = envelope.command(act(0.1, -0.7))
    assert command.dtype == np.float64
    np.testing.assert_array_equal(command, expected)
    assert not any(envelope.counts.values())
    assert envelope.explanation == ""


def test_an_offset_moves_the_policys_range_to_the_middle_of_an_absolute_actions_own() -> None:
    shoulder = action("shoulder", unit="rad", scale=1.05, offset=-1.55, lower=-2.6, upper=-0.5, hold=None)
    envelope = SafetyEnvelope([shoulder], 0.05)
    assert [envelope.command(act(v))[0] for v in (-1.0, 0.0, 1.0)] == pytest.approx([-2.6, -1.55, -0.5])
    assert not any(envelope.counts.values())


def test_limits_clip_and_are_counted() -> None:
    envelope = SafetyEnvelope([action()], 0.05)
    assert [envelope.command(act(v))[0] for v in (1.0, -1.0, 0.5)] == [1.5, -1.0, 1.0]
    assert envelope.counts["position"] == 2
    assert sum(envelope.counts.values()) == 2


def test_an_intervention_is_explained_with_limit_component_and_both_values() -> None:
    envelope = SafetyEnvelope([action(), action("y", max_rate=4.0), action("z")], 0.05)
    envelope.command(act(1.0, 0.5, 0.0))
    assert envelope.explanation == "limits: x 2 wanted, 1.5 m sent; max_rate: y 1 wanted, 0.2 m sent"
    envelope.command(act(0.0, 0.0, 0.0))
    assert envelope.explanation == ""


def test_the_rate_of_a_relative_action_counts_from_its_hold_and_of_an_absolute_one_from_the_first_command() -> None:
    envelope = SafetyEnvelope([action("relative", max_rate=4.0), action("absolute", max_rate=4.0, hold=None)], 0.05)
    commands = [envelope.command(act(-0.5, -0.5)).tolist(), *(envelope.command(act(0.5, 0.5)).tolist() for _ in "12")]
    np.testing.assert_allclose(commands, [[-0.2, -1.0], [0.0, -0.8], [0.2, -0.6]], atol=1e-12)  # 0.2 per period
    envelope.clear()
    np.testing.assert_allclose(envelope.command(act(0.5, 0.5)), [0.2, 1.0])


def test_the_caller_cannot_change_what_the_rate_limit_remembers() -> None:
    envelope = SafetyEnvelope([action(max_rate=4.0)], 0.05)
    envelope.command(act(0.0))[0] = 1.0
    assert envelope.command(act(0.5))[0] == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    envelope = SafetyEnvelope([action(), action("y")], 0.05)
    with pytest.raises(SafetyError, match=r"action y is not finite"):
        envelope.command(act(0.0, bad))


def test_an_action_of_another_length_is_refused() -> None:
    with pytest.raises(SafetyError, match=r"shape \(3,\) was given, expected \(1,\)"):
        SafetyEnvelope([action()], 0.05).command(act(0.0, 0.0, 0.0))


def test_a_hold_zeroes_relative_actions_at_once_and_repeats_absolute_ones() -> None:
    envelope = SafetyEnvelope([action("relative", max_rate=0.4), action("absolute", hold=None)], 0.05)
    assert envelope.hold() is None
    envelope.command(act(0.5, 0.25))
    held = envelope.hold()
    assert held is not None
    assert held.tolist() == [0.0, 0.5]


def test_a_hold_before_the_first_command_takes_absolute_actions_from_where_they_are_measured_or_is_none() -> None:
    fields = [action("relative"), action("absolute", hold=None, measured=HERE, max_start_jump=0.1)]
    envelope = SafetyEnvelope(fields, 0.05)
    with pytest.raises(SafetyError, match="would start"):
        envelope.command(act(0.5, 0.5), np.array([np.nan, 0.3]))
    held = envelope.hold()
    assert held is not None
    assert held.tolist() == [0.0, 0.3]
    envelope.clear()
    assert envelope.hold() is None  # whatever stood for the absolute one would move it


def test_after_a_hold_the_rate_limit_counts_from_the_hold() -> None:
    envelope = SafetyEnvelope([action(max_rate=4.0)], 0.05)
    envelope.command(act(0.5))
    envelope.hold()
    assert envelope.command(act(0.5))[0] == pytest.approx(0.2)


def test_a_hold_outside_the_limits_is_refused_with_the_contract() -> None:
    with pytest.raises(ValidationError, match=r"hold 0\.0 is outside 0\.5 to 1\.5; .* null to repeat"):
        action(lower=0.5)


HERE = Measurement(field="place")


def test_limits_so_low_that_nothing_could_stop_are_refused() -> None:
    with pytest.raises(
        SafetyError, match=r"action x may take \d+ control periods to stop, at most 100 are allowed; raise"
    ):
        SafetyEnvelope([action(max_jerk=1e-6)], 0.05)


def test_the_workspace_shortens_a_displacement_that_leads_out_of_it() -> None:
    envelope = SafetyEnvelope([action(scale=0.1, measured=HERE, workspace=(0.2, 0.6))], 0.05)
    for place, wanted, sent in ((0.4, 0.1, 0.1), (0.55, 0.1, 0.05), (0.6, 0.1, 0.0), (0.21, -0.1, -0.01)):
        assert envelope.command(act(wanted / 0.1), np.array([place]))[0] == pytest.approx(sent)
    assert envelope.counts["workspace"] == 3
    assert envelope.explanation == "workspace: x -0.1 wanted, -0.01 m sent"


def test_at_the_wall_a_displacement_is_cut_at_once_whatever_its_acceleration_and_jerk() -> None:
    """The wall is where the robot must not be; how it stops there is its controller's."""
    limits = {"max_rate": 0.4, "max_acceleration": 2.0, "max_jerk": 40.0}
    field = action(scale=0.1, lower=-0.1, upper=0.1, measured=HERE, workspace=(0.2, 0.6), **limits)
    envelope = SafetyEnvelope([field], 0.05)
    moved = [envelope.command(act(1.0), np.array([0.3]))[0] for _ in range(20)][-1]
    assert moved > 0.05
    assert envelope.command(act(1.0), np.array([0.6]))[0] == 0.0
    assert envelope.command(act(1.0), np.array([0.3]))[0] <= 0.4 * 0.05  # and from there it goes on by its limits


def test_from_outside_the_workspace_only_the_way_back_is_open() -> None:
    envelope = SafetyEnvelope([action(scale=0.1, measured=HERE, workspace=(0.2, 0.6))], 0.05)
    assert envelope.command(act(0.5), np.array([0.9]))[0] == 0.0
    assert envelope.command(act(-0.5), np.array([0.9]))[0] == pytest.approx(-0.05)
    assert envelope.command(act(0.5), np.array([0.1]))[0] == pytest.approx(0.05)


def test_the_target_stays_in_the_workspace_whatever_is_wanted_and_wherever_the_robot_is() -> None:
    random = np.random.default_rng(0)
    field = action(scale=0.1, max_rate=1.0, max_acceleration=8.0, max_jerk=200.0, measured=HERE, workspace=(0.2, 0.6))
    envelope = SafetyEnvelope([field], 0.05)
    place = 0.4
    for _ in range(150):
        moved = envelope.command(act(random.uniform(-1.0, 1.0)), np.array([place]))[0]
        assert 0.2 - 1e-12 <= place + moved <= 0.6 + 1e-12
        place += moved * random.uniform(0.5, 1.0)  # a robot that lags behind
    assert envelope.counts["workspace"] > 0


def test_the_workspace_of_an_absolute_action_is_a_limit_that_is_braked_for() -> None:
    field = action(hold=None, max_rate=2.0, max_acceleration=8.0, max_jerk=200.0, workspace=(-0.5, 0.5))
    envelope = SafetyEnvelope([field], 0.05)
    envelope.command(act(0.0))
    commands = np.array([envelope.command(act(1.0))[0] for _ in range(30)])
    assert commands.max() <= 0.5
    assert commands[-1] == 0.5
    assert np.abs(np.diff(commands, 2)).max() <= 8.0 * 0.05**2 + 1e-12


def test_a_workspace_without_a_measurement_is_a_hold() -> None:
    envelope = SafetyEnvelope([action(measured=HERE, workspace=(0.2, 0.6))], 0.05)
    with pytest.raises(SafetyError, match="action x has a workspace, but its position is not measured"):
        envelope.command(act(0.1))


def test_an_absolute_action_begins_at_the_measured_value_and_after_a_hold_again() -> None:
    envelope = SafetyEnvelope([action(hold=None, max_rate=2.0, measured=HERE)], 0.05)  # 0.1 per period
    assert envelope.command(act(0.5), np.array([0.2]))[0] == pytest.approx(0.3)
    assert envelope.command(act(0.5), np.array([0.2]))[0] == pytest.approx(0.4)
    assert envelope.hold() == pytest.approx([0.4])
    assert envelope.command(act(0.5), np.array([-0.7]))[0] == pytest.approx(-0.6)  # it was pushed meanwhile


def test_a_start_too_far_from_the_measured_pose_is_refused_until_it_is_near() -> None:
    envelope = SafetyEnvelope([action(hold=None, measured=HERE, max_start_jump=0.3)], 0.05)
    with pytest.raises(
        SafetyError, match=r"action x would start 0\.8 m from the measured 0\.2, at most 0\.3 is allowed"
    ):
        envelope.command(act(0.5), np.array([0.2]))
    with pytest.raises(SafetyError, match="from the measured nan"):
        envelope.command(act(0.5), np.array([np.nan]))
    assert envelope.counts["start_pose"] == 2
    assert envelope.command(act(0.5), np.array([0.8]))[0] == 1.0
    assert envelope.command(act(-0.5), np.array([0.8]))[0] == -1.0  # a jump on the way is for max_rate
    envelope.hold()
    with pytest.raises(SafetyError, match="would start"):
        envelope.command(act(0.5), np.array([-1.0]))


@pytest.mark.parametrize(("rate", "most"), [(2.0, 0.1), (None, 0.0)])
def test_a_start_outside_the_limits_by_more_than_a_period_of_the_rate_is_refused(
    rate: float | None, most: float
) -> None:
    field = action(hold=None, max_rate=rate, measured=HERE, workspace=(-0.5, 1.5))
    for outside in (1.5 + most + 1e-3, -0.5 - most - 1e-3):
        envelope = SafetyEnvelope([field], 0.05)
        with pytest.raises(
            SafetyError, match=rf"the measured {outside:.4g} m, outside its limits -0\.5 to 1\.5; bring"
        ):
            envelope.command(act(0.0), np.array([outside]))
        assert envelope.counts["start_pose"] == 1
        near = outside - np.sign(outside) * 1.1e-3
        command = envelope.command(act(np.sign(outside)), np.array([near]))[0]
        assert abs(command - near) <= most + 2e-4


def test_without_a_rate_a_start_outside_the_limits_by_no_more_than_rounding_begins_at_the_limit() -> None:
    envelope = SafetyEnvelope([action(hold=None, measured=HERE)], 0.05)
    assert envelope.command(act(1.0), np.array([np.float64(np.float32(1.5000002))])) == [1.5]
    with pytest.raises(SafetyError, match="outside its limits -1 to 1.5"):
        SafetyEnvelope([action(hold=None, measured=HERE)], 0.05).command(act(1.0), np.array([1.50001]))


def test_guided_actions_stay_near_the_unguided_ones_of_the_same_noise() -> None:
    envelope = SafetyEnvelope([action(), action("y")], 0.05)
    unguided = np.array([[0.0, 0.5], [-0.2, 0.1]], dtype=np.float32)
    guided = unguided + np.array([[0.05, 0.3], [-0.4, 0.0]], dtype=np.float32)
    kept = envelope.limit_guidance(guided, unguided, 0.1)
    np.testing.assert_allclose(kept - unguided, [[0.05, 0.1], [-0.1, 0.0]], atol=1e-6)
    assert (kept.dtype, envelope.counts["guidance"]) == (np.float32, 1)
    envelope.command(kept[0])
    assert envelope.explanation == "max_guidance_deviation: x guided by 0.4, y guided by 0.3, 0.1 kept"
    envelope.command(kept[1])
    assert envelope.explanation == ""
    np.testing.assert_array_equal(envelope.limit_guidance(guided, unguided, 1.0), guided)
    assert envelope.counts["guidance"] == 1


KINDS = {
    "plain": {},
    "limited": {"max_rate": 6.0, "max_acceleration": 40.0, "max_jerk": 600.0},
    "boxed": {"max_rate": 6.0, "measured": HERE, "workspace": (-0.5, 0.7)},
    "absolute": {"hold": None, "max_rate": 6.0, "max_acceleration": 40.0, "max_jerk": 600.0},
}


@given(
    chunk=arrays(np.float32, (12, len(KINDS)), elements=st.floats(-1.0, 1.0, width=32)),
    before=st.integers(1, 6),
    place=st.floats(-0.5, 0.7),
)
def test_a_preview_is_what_comes_out_when_the_chunk_is_executed_and_changes_nothing(
    chunk: Any, before: int, place: float
) -> None:
    fields = [action(name, **changes) for name, changes in KINDS.items()]
    envelope = SafetyEnvelope(fields, 0.05)
    relative = np.array([field.hold is not None for field in fields])
    measured = np.array([np.nan, np.nan, place, np.nan])
    for one in chunk[:before]:
        sent = envelope.command(one, measured)
        measured = np.where(relative, measured + sent, measured)
    said = dict(envelope.counts), envelope.explanation
    preview = envelope.preview(chunk[before:])
    assert (envelope.counts, envelope.explanation) == said
    for one, foreseen in zip(chunk[before:], preview):
        sent = envelope.command(one, measured)
        measured = np.where(relative, measured + sent, measured)
        np.testing.assert_array_equal(foreseen, sent)


def test_a_preview_of_an_action_that_is_not_finite_is_refused() -> None:
    envelope = SafetyEnvelope([action()], 0.05)
    envelope.command(act(0.1))
    with pytest.raises(SafetyError, match="action x is not finite"):
        envelope.preview(np.array([[0.1], [np.nan]], dtype=np.float32))
    assert not any(envelope.counts.values())
    assert envelope.preview(act().reshape(0, 1)).shape == (0, 1)


def contract(**changes: Any) -> Manifest:
    place = ObservationField(
        name="place",
        topic="pose",
        message_type="geometry_msgs/msg/PoseStamped",
        extraction="position",
        history=2,
        size=6,
        unit="m",
        offset=(0.5, 0.0, 0.1),
        scale=10.0,
    )
    speed = ObservationField(
        name="speed",
        topic="twist",
        message_type="geometry_msgs/msg/TwistStamped",
        extraction="linear",
        size=3,
        unit="m/s",
        clip=(-1.0, 1.0),
    )
    fields = (action("x", measured=Measurement(field="place", component=2)), action("y"))
    values = {"name": "arm", "observation": (speed, place), "action": fields, "horizon": 1, "execution_horizon": 1}
    return Manifest(**{**values, "control_rate": 20.0, "critics": {}, **changes})


def test_a_measured_value_is_read_from_the_newest_instant_in_the_unit_of_the_action() -> None:
    vector = np.arange(9, dtype=np.float32)  # speed 0 to 2, place 3 to 5 and, newer, 6 to 8
    np.testing.assert_allclose(MeasuredValues(contract())(vector), [8.0 / 10.0 + 0.1, np.nan])


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Measurement(field="pose"), "measured by pose, which is not among the observation fields speed, place"),
        (Measurement(field="place", component=3), "component 3 of place was given, it has 3, counted from 0"),
        (Measurement(field="speed"), "unit m differs from m/s, the unit of speed"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused_with_the_contract(measured: Measurement, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        contract(action=(action(measured=measured),))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workspace": (0.6, 0.2), "measured": HERE}, "must be \\(lower, upper\\)"),
        ({"workspace": (0.2, 0.6)}, "needs hold 0 and a measured position"),
        ({"workspace": (2.0, 3.0), "hold": None}, "have nothing in common"),
        ({"max_start_jump": 0.1, "measured": HERE}, "max_start_jump is for an absolute action"),
    ],
)
def test_guards_that_do_not_fit_an_action_are_refused_with_the_contract(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        action(**changes)


def test_limits_are_set_anew_for_one_robot() -> None:
    text = "x.max_rate = 0.5, x.workspace=0.2:0.6,y.lower=-0.5, y.measured=place:1, x.max_jerk=none"
    changed = manifest_with_limits(contract(), text)
    x, y = changed.action
    assert (x.max_rate, x.workspace, x.max_jerk, x.upper) == (0.5, (0.2, 0.6), None, 1.5)
    assert (y.lower, y.measured) == (-0.5, Measurement(field="place", component=1))
    assert manifest_with_limits(changed, "y.measured=none").action[1].measured is None
    assert manifest_with_limits(contract(), "") == contract()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("z.max_rate=1", "expected component.attribute=value with a component of x, y and an attribute of lower"),
        ("x.scale=1", "expected component.attribute=value"),
        ("x.max_rate", "expected component.attribute=value"),
        ("x.max_rate=fast", "action.0.max_rate: Input should be a valid number"),
        ("x.max_rate=nan", "action.0.max_rate: Input should be"),
        ("y.workspace=0.2:0.6", "needs hold 0 and a measured position"),
    ],
)
def test_limits_that_cannot_be_read_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SafetyError, match=reason):
        manifest_with_limits(contract(), text)


def test_motion_is_refused_where_an_absolute_action_lacks_limits_unless_that_is_accepted() -> None:
    limited = {"hold": None, "measured": HERE, "max_rate": 1.0, "max_start_jump": 0.1}
    actions = (
        action("relative"),
        action("whole", **limited),
        action("fast", **{**limited, "max_rate": None}),
        action("quick", **{**limited, "max_rate": None}),
        action("blind", hold=None, max_rate=1.0),
    )
    manifest = contract(action=actions)
    with pytest.raises(SafetyError) as refusal:
        check_limited(manifest, ())
    assert str(refusal.value).startswith(
        "absolute actions are not limited enough to move a robot: fast, quick (no max_rate); blind (no measured, "
        "max_start_jump); set what is missing"
    )
    with pytest.raises(SafetyError, match=r"move a robot: quick \(no max_rate\); set"):
        check_limited(manifest, ("blind", "fast"))
    check_limited(manifest, ("blind", "fast", "quick"))
    with pytest.raises(
        SafetyError, match="accept_unlimited slow was given; the components of the action are relative, w"
    ):
        check_limited(manifest, ("blind", "fast", "quick", "slow"))
