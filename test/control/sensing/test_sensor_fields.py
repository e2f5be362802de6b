"""Fields of odometry, inertial units, ranges, transforms and detections: what they are given, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.messages.message_types import DETECTIONS, EXTRACTIONS, TRANSFORMS
from qgf_ros.control.extraction import JointReading, PoseReading, Reading, extract
from qgf_ros.control.robot_contract import RobotContract, template
from qgf_ros.control.sensing.further_readings import ImuReading, OdometryReading, RangeReading
from qgf_ros.control.sensing.sensor_messages import SENSOR_MESSAGES, Detections
from qgf_ros.errors import ContractError, ObservationError
from qgf_ros.loop.intake import ObservationIntake

ODOMETRY, IMU, RANGE = "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu", "sensor_msgs/msg/Range"
POSE = "geometry_msgs/msg/PoseStamped"
MS = 1_000_000
UP = np.array([0.0, 0.0, 0.0, 1.0])


def field(message_type: str, extraction: str, size: int, **changes: Any) -> ObservationField:
    values = {"name": "x", "topic": "topic", "message_type": message_type, "unit": "1"}
    return ObservationField(**{**values, "extraction": extraction, "size": size, **changes})


BASE = OdometryReading(np.arange(3.0), UP, np.arange(3.0, 6.0), np.arange(6.0, 9.0), "odom", "base")
FELT = ImuReading(UP, np.arange(3.0), np.arange(3.0, 6.0), "imu")


@pytest.mark.parametrize(
    ("reading", "message_type", "extraction", "expected"),
    [
        (BASE, ODOMETRY, "position", [0, 1, 2]),
        (BASE, ODOMETRY, "quaternion_wxyz", [1, 0, 0, 0]),
        (BASE, ODOMETRY, "linear", [3, 4, 5]),
        (BASE, ODOMETRY, "angular", [6, 7, 8]),
        (FELT, IMU, "quaternion_xyzw", [0, 0, 0, 1]),
        (FELT, IMU, "angular", [0, 1, 2]),
        (FELT, IMU, "linear_acceleration", [3, 4, 5]),
        (RangeReading(np.array([0.5]), 0.25, 4.0), RANGE, "range", [0.5]),
    ],
)
def test_a_field_is_given_its_part_of_a_message(
    reading: Reading, message_type: str, extraction: str, expected: list[float]
) -> None:
    wanted = field(message_type, extraction, len(expected))
    assert extract(wanted, reading).tolist() == expected
    some = field(message_type, extraction, 1, components=(len(expected) - 1,))
    assert extract(some, reading).tolist() == expected[-1:]


angles = st.floats(-3.0, 3.0)


@examples(25)
@given(angles, angles, angles)
def test_six_numbers_of_a_rotation_are_two_columns_of_its_matrix_for_both_signs(a: float, b: float, c: float) -> None:
    q = np.array([math.sin(a), math.cos(a) * math.sin(b), math.cos(a) * math.cos(b) * math.sin(c), 0.0])
    q[3] = math.sqrt(max(0.0, 1.0 - float(q @ q)))
    wanted = field(POSE, "rotation_6d", 6)
    first, second = extract(wanted, PoseReading(np.zeros(3), q)).reshape(2, 3)
    np.testing.assert_allclose([first @ first, second @ second, first @ second], [1.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(
        np.arctan2(first[1], first[0]), extract(field(POSE, "yaw", 1), PoseReading(np.zeros(3), q))[0]
    )
    np.testing.assert_array_equal(extract(wanted, PoseReading(np.zeros(3), -q)), [*first, *second])


@pytest.mark.parametrize("distance", [0.2, 4.5, math.inf, -math.inf, math.nan])
def test_a_range_that_its_sensor_cannot_tell_is_refused(distance: float) -> None:
    with pytest.raises(ObservationError, match=r"field x: topic topic gives a range of .*can tell 0\.25 to 4 m"):
        extract(field(RANGE, "range", 1), RangeReading(np.array([distance]), 0.25, 4.0))


@pytest.mark.parametrize(
    ("reading", "message_type", "names", "reason"),
    [
        (BASE, ODOMETRY, {"frame_id": "map"}, "topic topic has frame_id 'odom', expected map"),
        (BASE, ODOMETRY, {"frame_id": "odom", "child_frame_id": "tool"}, "has child_frame_id 'base', expected tool"),
        (PoseReading(np.zeros(3), UP, "camera"), POSE, {"frame_id": "base"}, "has frame_id 'camera', expected base"),
        (PoseReading(np.zeros(3), UP), POSE, {"frame_id": "base"}, "has frame_id '', expected base"),
    ],
)
def test_another_frame_is_refused_by_name(reading: Reading, message_type: str, names: Any, reason: str) -> None:
    with pytest.raises(ObservationError, match=reason):
        extract(field(message_type, "position", 3, **names), reading)
    assert extract(field(message_type, "position", 3), reading).shape == (3,), "it is not asked for"


@pytest.mark.parametrize(
    ("message_type", "names", "reason"),
    [
        (TRANSFORMS, {"frame_id": "base"}, "a tf2_msgs/msg/TFMessage needs child_frame_id"),
        (TRANSFORMS, {"frame_id": "base", "child_frame_id": "base"}, "frame_id and child_frame_id are both base"),
        (DETECTIONS, {"frame_id": "camera"}, "a vision_msgs/msg/Detection3DArray needs object_id"),
        (
            POSE,
            {"child_frame_id": "tool"},
            "child_frame_id tool was given, and a geometry_msgs/msg/PoseStamped has none",
        ),
        (ODOMETRY, {"object_id": "cup"}, "object_id cup was given"),
        (ODOMETRY, {"frame_id": "a\nb"}, "frame_id"),
    ],
)
def test_what_a_field_must_name_and_may_not_is_said(message_type: str, names: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        field(message_type, "position", 3, **names)


def test_a_field_that_names_nothing_is_written_as_ever() -> None:
    plain = field(POSE, "position", 3)
    assert not {"frame_id", "child_frame_id", "object_id"} & plain.model_dump().keys()
    named = field(POSE, "position", 3, frame_id="base")
    assert ObservationField.model_validate_json(named.model_dump_json()) == named
    assert "child_frame_id" not in named.model_dump_json()


def test_every_sensor_message_has_parts_and_a_way_to_read_it() -> None:
    assert set(SENSOR_MESSAGES) == {ODOMETRY, IMU, RANGE, TRANSFORMS, DETECTIONS}
    assert set(SENSOR_MESSAGES) <= set(EXTRACTIONS)


def header(stamp: int = 0, frame_id: str = "") -> Any:
    seconds, rest = divmod(stamp, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=rest), frame_id=frame_id)


def pose(x: float) -> Any:
    return SimpleNamespace(position=SimpleNamespace(x=x, y=0.0, z=0.0), orientation=quaternion())


def quaternion() -> Any:
    return SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)


def transforms(*told: tuple[str, str, int, float]) -> Any:
    """Return a stand-in of a tf2_msgs/TFMessage: frame, child, stamp [ns], x [m]."""
    return SimpleNamespace(
        transforms=[
            SimpleNamespace(
                header=header(stamp, frame),
                child_frame_id=child,
                transform=SimpleNamespace(translation=SimpleNamespace(x=x, y=0.0, z=0.0), rotation=quaternion()),
            )
            for frame, child, stamp, x in told
        ]
    )


def detections(*found: tuple[str, str, float, float], own_frame: str = "", own_stamp: int = 0) -> Any:
    """Return a stand-in of a vision_msgs/Detection3DArray: id, class, score, x [m]; the stamp of each in [ns]."""
    return SimpleNamespace(
        header=header(frame_id="camera"),
        detections=[
            SimpleNamespace(
                header=header(own_stamp, own_frame),
                id=identity,
                results=[
                    SimpleNamespace(
                        hypothesis=SimpleNamespace(class_id=kind, score=score), pose=SimpleNamespace(pose=pose(x))
                    )
                ],
            )
            for identity, kind, score, x in found
        ],
    )


TAG = {"topic": "/tf", "frame_id": "base", "child_frame_id": "tag"}
FIELDS = (
    field("sensor_msgs/msg/JointState", "joint_position", 1, name="arm", topic="joint_states", joints=("a",)),
    field(TRANSFORMS, "position", 3, name="tag", **TAG),
    field(DETECTIONS, "position", 3, name="cup", topic="detections", object_id="cup", frame_id="camera"),
    field(DETECTIONS, "position", 3, name="known", topic="detections", object_id="7"),
)


class Heard:
    """An intake of those fields, and a clock."""

    def __init__(self) -> None:
        self.intake = ObservationIntake(FIELDS, 0.05, simulated_time=False, backward_jump=0.05)
        self.now = 0

    def at(self, milliseconds: int, topic: str, message: Any) -> None:
        """Let a message of a topic arrive; of joints, their position."""
        self.now = milliseconds * MS
        if topic == "joint_states":
            said: Any = JointReading(("a",), np.array([message]), np.empty(0), np.empty(0))
        else:
            said = SENSOR_MESSAGES[TRANSFORMS if topic.startswith("/tf") else DETECTIONS](message)
        self.intake.receive(topic, self.now, said, self.now)

    def vector(self) -> list[float]:
        return self.intake.collect(self.now).vector.tolist()

    def why_not(self) -> str:
        with pytest.raises(ObservationError) as error:
            self.intake.collect(self.now)
        return str(error.value)


CUPS = detections(("7", "plate", 0.4, 0.7), ("1", "cup", 0.3, 0.1), ("2", "cup", 0.8, 0.2), ("3", "cup", math.nan, 0.9))


@pytest.fixture
def heard() -> Heard:
    heard = Heard()
    heard.at(1000, "/tf_static", transforms(("tool", "camera", 0, 0.5)))
    heard.at(1000, "/tf", transforms(("base", "tool", 1000 * MS, 1.0), ("map", "odom", 2500 * MS, 9.0)))
    heard.at(1000, "joint_states", 0.25)
    heard.at(1000, "/tf", transforms(("camera", "tag", 1000 * MS, 0.25)))
    heard.at(1000, "detections", CUPS)
    return heard


def test_one_vector_is_made_of_joints_transforms_and_detections(heard: Heard) -> None:
    np.testing.assert_allclose(heard.vector(), [0.25, 1.75, 0, 0, 0.2, 0, 0, 0.7, 0, 0], rtol=1e-6)


def test_what_is_not_detected_is_missing_and_not_where_it_was(heard: Heard) -> None:
    heard.at(1010, "detections", detections(("7", "plate", 0.4, 0.7)))
    assert heard.why_not() == "field cup: topic detections of cup has no detection of cup among 1"
    heard.at(1020, "detections", CUPS)
    assert heard.vector()[4] == pytest.approx(0.2)


def test_what_holds_until_it_is_replaced_is_where_it_was_seen_last() -> None:
    kept = FIELDS[2].model_copy(update={"max_age": None})
    intake = ObservationIntake((FIELDS[0], kept), 0.05, simulated_time=False, backward_jump=0.05)
    for now, seen in ((0, CUPS), (10**9, detections(("7", "plate", 0.4, 0.7)))):
        intake.receive("joint_states", now, JointReading(("a",), np.zeros(1), np.empty(0), np.empty(0)), now)
        intake.receive("detections", now, SENSOR_MESSAGES[DETECTIONS](seen), now)
        np.testing.assert_allclose(intake.collect(now).vector, [0.0, 0.2, 0.0, 0.0])


def test_detections_of_another_frame_are_refused_be_it_that_of_one_or_of_all(heard: Heard) -> None:
    heard.at(1010, "detections", detections(("7", "plate", 0.4, 0.7), ("2", "cup", 0.8, 0.2), own_frame="other"))
    assert "field cup: topic detections of cup has frame_id 'other', expected camera" in heard.why_not()


def test_a_thing_that_a_tracker_only_remembers_is_as_old_as_it_was_seen(heard: Heard) -> None:
    """The message is new, and the detection in it says itself when it is of."""
    for k in range(1, 31):
        heard.at(1000 + 10 * k, "/tf", transforms(("base", "tool", heard.now, 1.0), ("camera", "tag", heard.now, 0.25)))
        heard.at(1000 + 10 * k, "joint_states", 0.5)
        known = detections(("7", "plate", 0.4, 0.7), ("2", "cup", 0.8, 0.2), own_stamp=1000 * MS)
        heard.at(1000 + 10 * k, "detections", known)
    assert heard.why_not().startswith("field cup: topic detections of cup is stale, 0.300 s old")
    ahead = detections(("7", "plate", 0.4, 0.7), ("2", "cup", 0.8, 0.2), own_stamp=9000 * MS)
    heard.at(1310, "detections", ahead)
    assert heard.intake.collect(heard.now).stamp == 1310 * MS, "and none is newer than what it came in"


def test_a_tag_that_is_lost_from_sight_makes_its_field_stale_while_the_arm_is_heard(heard: Heard) -> None:
    for k in range(1, 30):
        heard.at(1000 + 10 * k, "/tf", transforms(("base", "tool", (1000 + 10 * k) * MS, 1.0)))
        heard.at(1000 + 10 * k, "joint_states", 0.25)
        heard.at(1000 + 10 * k, "detections", CUPS)
    reason = "field tag: topic /tf from base to tag is stale, 0.290 s old, at most 0.2 s allowed"
    assert heard.why_not() == reason
    heard.at(1300, "/tf", transforms(("camera", "tag", 1300 * MS, 0.5), ("base", "tool", 1300 * MS, 1.0)))
    assert heard.vector()[1] == pytest.approx(2.0)


def test_a_missing_transform_is_said_until_it_comes_and_again_after_a_restart_of_the_clock(heard: Heard) -> None:
    heard.intake.clear()
    heard.at(1010, "/tf", transforms(("base", "tool", 1010 * MS, 1.0)))
    assert heard.why_not().startswith("field tag: topic /tf has no transform of frame tag; look at its spelling")
    heard.at(1010, "/tf", transforms(("camera", "tag", 1010 * MS, 0.25)))
    assert heard.why_not() == "field arm: nothing received yet on topic joint_states"


def test_where_something_is_built_in_holds_for_ever_if_the_contract_says_that_nothing_of_it_is_measured() -> None:
    built_in = field(TRANSFORMS, "position", 3, name="fixture", **{**TAG, "child_frame_id": "fixture"}, max_age=None)
    arm = FIELDS[0]
    told = SENSOR_MESSAGES[TRANSFORMS](transforms(("base", "table", 0, 1.0), ("table", "fixture", 0, 0.5)))
    intake = ObservationIntake((arm, built_in), 0.05, simulated_time=False, backward_jump=0.05)
    intake.receive("/tf_static", 0, told, 0)
    intake.clear()  # as when the node is activated, later than it was said
    for now in (10**9, 10**12):
        intake.receive("joint_states", now, JointReading(("a",), np.zeros(1), np.empty(0), np.empty(0)), now)
        assert intake.collect(now).vector.tolist() == [0.0, 1.5, 0.0, 0.0]
    measured = ObservationIntake(
        (arm, field(TRANSFORMS, "position", 3, **TAG)), 0.05, simulated_time=False, backward_jump=0.05
    )
    measured.receive("/tf_static", 0, SENSOR_MESSAGES[TRANSFORMS](transforms(("base", "tag", 0, 1.0))), 10**12)
    measured.receive("joint_states", 10**12, JointReading(("a",), np.zeros(1), np.empty(0), np.empty(0)), 10**12)
    for now in (10**9, 10**12):  # nor is it the fault of a clock that it is stamped when it was said, or 0
        with pytest.raises(
            ObservationError, match="field x: topic /tf has only static transforms from frame base to tag"
        ):
            measured.collect(now)


def test_the_stamps_of_other_frames_in_a_message_do_not_count(heard: Heard) -> None:
    """Localisation says where the map is a second ahead of time; the tag is of now."""
    assert heard.intake.collect(heard.now).stamp == 1000 * MS


MANIFEST = Manifest(
    name="arm",
    observation=(field(POSE, "position", 3, name="thing", topic="/object/pose", frame_id="world"),),
    action=({"name": "dx", "unit": "m", "scale": 0.05, "lower": -0.05, "upper": 0.05},),
    horizon=1,
    execution_horizon=1,
    control_rate=20.0,
    critics={"reach": CriticCard(task="reach", discount=0.99, ensemble_size=2)},
)


def contract(**source: Any) -> RobotContract:
    return RobotContract.model_validate({"fields": {"thing": source}})


def test_a_robot_may_know_a_pose_from_its_transforms_or_detections() -> None:
    tf = contract(message_type=TRANSFORMS, **TAG)
    (thing,) = tf.apply(MANIFEST)
    assert (thing.topics, thing.source) == (("/tf", "/tf_static"), "/tf from base to tag")
    assert tf.publishers(MANIFEST) == {}, "everybody publishes transforms"
    seen = contract(message_type=DETECTIONS, topic="/detections", object_id="cup")
    (thing,) = seen.apply(MANIFEST)
    assert (thing.frame_id, thing.source) == (None, "/detections of cup")
    assert seen.publishers(MANIFEST) == {"/detections": ("thing", 1)}
    (thing,) = contract(topic="/other").apply(MANIFEST)
    assert thing.frame_id == "world", "of the same type it stays"


def test_a_contract_that_names_too_little_is_one_sentence() -> None:
    with pytest.raises(
        ContractError, match="field thing of the contract does not fit the bundle: .*needs frame_id and"
    ):
        contract(message_type=TRANSFORMS, topic="/tf").apply(MANIFEST)


def test_a_template_says_which_frames_are_meant() -> None:
    assert '    frame_id: "world"\n' in template(MANIFEST)
    found = Manifest(**{**dict(MANIFEST), "observation": contract(message_type=TRANSFORMS, **TAG).apply(MANIFEST)})
    assert '    frame_id: "base"\n    child_frame_id: "tag"\n' in template(found)


def test_detections_are_told_apart_by_class_and_by_id_and_the_surest_counts() -> None:
    found = SENSOR_MESSAGES[DETECTIONS](CUPS)
    assert isinstance(found, Detections)
    assert {name: (score, reading.position[0]) for name, (score, _, reading) in found.best.items()} == {
        "plate": (0.4, 0.7),
        "7": (0.4, 0.7),
        "cup": (0.8, 0.2),
        "1": (0.3, 0.1),
        "2": (0.8, 0.2),
    }
