"""The manifest refuses contracts that contradict themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField, goal_field
from qgf_ros.bundle.goal_fields import OBJECT_GOAL, field_of_goal, goal_columns
from qgf_ros.bundle.manifest import CriticCard, Manifest

FIELD: dict[str, Any] = {
    "name": "joints",
    "topic": "joint_states",
    "message_type": "sensor_msgs/msg/JointState",
    "extraction": "joint_position",
    "joints": ("a", "b"),
    "size": 2,
    "unit": "rad",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 3}, "size 3 was given, joint_position yields 2"),
        ({"extraction": "position"}, "does not fit"),
        ({"message_type": "my_msgs/msg/Own"}, "is not one of"),
        ({"offset": (0.0, 0.0, 0.0)}, "offset has 3 values, expected 1 or 2"),
        ({"clip": (1.0, 0.0)}, "must be \\(lower, upper\\)"),
        ({"max_age": 0.0}, "max_age"),
        ({"scale": float("nan")}, "scale"),
        ({"name": "no spaces"}, "name"),
    ],
)
def test_a_contradictory_observation_field_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ObservationField(**{**FIELD, **change})


def test_a_sound_observation_field_is_accepted() -> None:
    assert ObservationField(**FIELD).size == 2


def test_action_limits_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match="lower 1.0 must be below upper -1.0"):
        ActionField(name="dx", unit="m", scale=0.05, lower=1.0, upper=-1.0)


@pytest.mark.parametrize("offset", [1.55, -4.0])
def test_the_policys_range_must_reach_into_the_limits(offset: float) -> None:
    joint = {"name": "shoulder", "unit": "rad", "scale": 1.05, "lower": -2.6, "upper": -0.5, "hold": None}
    assert ActionField(**joint, offset=-1.55).offset == -1.55
    with pytest.raises(ValidationError, match=rf"offset {offset} make \[-1, 1\] .* outside -2.6 to -0.5; mend them"):
        ActionField(**joint, offset=offset)


#: What each extraction yields, from the definitions of the messages.
SIZES = {
    "PoseStamped": {"position": 3, "quaternion_wxyz": 4, "quaternion_xyzw": 4, "yaw": 1, "yaw_cos_sin": 2},
    "TwistStamped": {"linear": 3, "angular": 3},
    "WrenchStamped": {"force": 3, "torque": 3, "wrench_norm": 1},
}


@pytest.mark.parametrize(
    ("message", "extraction", "size"), [(m, e, size) for m, sizes in SIZES.items() for e, size in sizes.items()]
)
def test_a_field_has_as_many_components_as_its_message_yields(message: str, extraction: str, size: int) -> None:
    values = {**FIELD, "joints": (), "message_type": f"geometry_msgs/msg/{message}", "extraction": extraction}
    for history in (1, 3):
        assert ObservationField(**{**values, "size": history * size, "history": history}).instant_size == size
    for wrong in (size - 1, size + 1):
        with pytest.raises(ValidationError):
            ObservationField(**{**values, "size": wrong})
    last = {**values, "size": 1, "components": (size - 1,)}
    assert ObservationField(**last).instant_size == 1
    with pytest.raises(ValidationError, match=f"component {size} was given, {extraction} yields {size}, counted from"):
        ObservationField(**{**last, "components": (size,)})


@pytest.mark.parametrize(("clip", "sound"), [((-1.0, 1.0), True), ((1.0, 1.0), False), ((1.0, -1.0), False)])
def test_a_clip_is_a_lower_and_an_upper_value(clip: tuple[float, float], sound: bool) -> None:
    if sound:
        assert ObservationField(**FIELD, clip=clip).clip == clip
    else:
        with pytest.raises(ValidationError, match=r"must be \(lower, upper\)"):
            ObservationField(**FIELD, clip=clip)


ACTION: dict[str, Any] = {"name": "dx", "unit": "rad", "scale": 1.0, "lower": -1.0, "upper": 1.0}
MEASURED = Measurement(field="joints", component=1)


@pytest.mark.parametrize(
    "change",
    [
        {"lower": 1.0, "upper": 1.0, "hold": None},
        {"offset": 2.0},
        {"offset": -2.0},
        {"hold": 1.1},
        {"hold": -1.1},
        {"workspace": (0.5, 0.5), "hold": None},
        {"workspace": (0.5, -0.5), "hold": None},
        {"workspace": (1.0, 2.0), "hold": None},
        {"workspace": (-2.0, -1.0), "hold": None},
        {"workspace": (-0.5, 0.5)},
        {"workspace": (-0.5, 0.5), "measured": MEASURED, "hold": 0.1},
    ],
)
def test_limits_that_leave_an_action_nothing_or_cannot_be_kept_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="action dx: "):
        ActionField(**{**ACTION, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1.99},
        {"offset": -1.99},
        {"hold": 1.0},
        {"hold": -1.0},
        {"hold": None},
        {"workspace": (0.99, 2.0), "hold": None},
        {"workspace": (-2.0, -0.99), "hold": None},
        {"workspace": (5.0, 6.0), "measured": MEASURED},  # of a relative action the limits are no place
    ],
)
def test_limits_that_leave_an_action_a_little_are_accepted(change: dict[str, Any]) -> None:
    field = ActionField(**{**ACTION, **change})
    assert {name: getattr(field, name) for name in change} == change


def test_a_goal_holds_its_fields_in_its_own_order() -> None:
    fields = (field(), field(name="fast"), goal_field(4))
    assert goal_columns(fields).tolist() == [0, 1, 2, 3]
    assert goal_columns(fields, ("fast", "joints")).tolist() == [2, 3, 0, 1]
    assert field_of_goal(fields[:2]) == goal_field(4)
    part = field_of_goal(fields[:2], ("fast",))
    assert (part.name, part.topic, part.size) == ("goal", OBJECT_GOAL, 2)


def whole(**changes: Any) -> Manifest:
    critic = CriticCard(task="t", discount=0.99, ensemble_size=2)
    values: dict[str, Any] = {
        "name": "whole",
        "observation": (ObservationField(**FIELD),),
        "action": (ActionField(**ACTION), ActionField(**{**ACTION, "name": "dy"})),
        "horizon": 3,
        "execution_horizon": 3,
        "control_rate": 20.0,
        "critics": {"c": critic},
    }
    return Manifest(**{**values, **changes})


def test_sizes_follow_from_the_fields_and_what_was_not_tested_has_no_range() -> None:
    manifest = whole()
    assert (manifest.observation_size, manifest.action_size, manifest.chunk_size) == (2, 2, 6)
    assert manifest.critics["c"].tested_range == (0.0, 0.0)


def with_goal(size: int, names: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    """What makes the whole manifest one with a goal that holds some of its fields."""
    goal = goal_field(size).model_copy(update={"topic": OBJECT_GOAL})
    return {"observation": (field(), field(name="fast"), goal), "goal": "goal", "goal_fields": names, **changes}


def field(**changes: Any) -> ObservationField:
    return ObservationField(**{**FIELD, **changes})


def moved(**changes: Any) -> ActionField:
    return ActionField(**{**ACTION, "measured": MEASURED, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"execution_horizon": 4}, "execution_horizon 4 exceeds horizon 3"),
        ({"precision_tolerance": -0.01}, "precision_tolerance"),
        ({"observation": (field(), field())}, "observation field joints is named twice"),
        (
            {"observation": (field(), field(name="fast", quality={"depth": 9}))},
            "joints and fast share topic joint_states",
        ),
        ({"goal": "joints"}, "goal joints is not an observation field that holds"),
        ({"goal": "nothing"}, "goal nothing is not an observation field that holds"),
        ({"goal_fields": ("joints",)}, "goal None is not an observation field that holds"),
        (with_goal(2, ("arm",)), "goal_fields arm are not fields of the observation, each once"),
        (with_goal(4, ("fast", "fast")), "goal_fields fast, fast are not fields of the observation, each once"),
        (with_goal(4, ("fast", "goal")), "goal_fields fast, goal are not fields of the observation, each once"),
        (with_goal(3, ("fast",)), "goal goal has 3 values, its goal_fields fast have others"),
        (
            {"action": (moved(measured=Measurement(field="joints", component=2)),)},
            "component 2 of joints was given, it has 2",
        ),
        ({"action": (moved(measured=Measurement(field="arm")),)}, "measured by arm, which is not among"),
        ({"action": (moved(unit="m"),)}, "unit m differs from rad"),
        ({"action": (moved(),), "observation": (field(clip=(-1.0, 1.0)),)}, "clipped or constant"),
        ({"action": (moved(),), "observation": (field(constant=(1.0,)),)}, "clipped or constant"),
        ({"parity": {"velocity": float("nan")}}, "parity error of velocity is not finite"),
        ({"files": {f"f{i}": {"sha256": "0" * 64, "size": 2**29 + i} for i in range(2)}}, "1073741825 bytes together"),
        (
            {"files": {name: {"sha256": "0" * 64, "size": 1} for name in ("a.onnx", "A.onnx")}},
            "two files have one name",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        whole(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"action": (moved(),)},
        {"observation": (field(), field(name="fast"))},
        {"observation": (field(), field(name="still", constant=(1.0,), quality={"depth": 9}))},
        {"observation": (field(max_age=None),), "goal": "joints"},
        with_goal(2, ("fast",)),
        with_goal(4, ("fast", "joints")),
        {"files": {f"f{i}": {"sha256": "0" * 64, "size": 2**29} for i in range(2)}},
    ],
)
def test_a_manifest_at_the_edge_of_what_it_may_say_is_accepted(changes: dict[str, Any]) -> None:
    whole(**changes)
