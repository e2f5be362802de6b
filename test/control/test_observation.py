"""The observation contract: what is taken out of readings, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.demonstrations import demonstrations_of
from qgf_ros.bundle.expectation import Expected
from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import (
    JointReading,
    PoseReading,
    Reading,
    TwistReading,
    VectorReading,
    WrenchReading,
    extract,
)
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.sensing.orientation import yaw_of
from qgf_ros.errors import ObservationError

SECOND = 1_000_000_000
NONE = np.empty(0)


def field(message: str, extraction: str, size: int, **changes: Any) -> ObservationField:
    values = {"name": "block", "topic": "sensor", "unit": "1", **changes}
    return ObservationField(message_type=message, extraction=extraction, size=size, **values)


JOINTS = field("sensor_msgs/msg/JointState", "joint_position", 2, joints=("b", "a"))
POSITION = field("geometry_msgs/msg/PoseStamped", "position", 3)
QUARTER_TURN = PoseReading(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]))


def test_joints_are_found_by_name_whatever_their_order() -> None:
    reading = JointReading(
        ("a", "x", "b"), np.array([1.0, 9.0, 2.0]), np.array([3.0, 9.0, 4.0]), np.array([5.0, 9.0, 6.0])
    )
    assert extract(JOINTS, reading).tolist() == [2.0, 1.0]
    for kind, expected in (("joint_velocity", [4.0, 3.0]), ("joint_effort", [6.0, 5.0])):
        other = field("sensor_msgs/msg/JointState", kind, 2, joints=("b", "a"))
        assert extract(other, reading).tolist() == expected


@pytest.mark.parametrize(
    ("message", "extraction", "reading", "expected"),
    [
        ("geometry_msgs/msg/PoseStamped", "position", QUARTER_TURN, [1, 2, 3]),
        ("geometry_msgs/msg/PoseStamped", "quaternion_wxyz", QUARTER_TURN, [0.5**0.5, 0, 0, 0.5**0.5]),
        ("geometry_msgs/msg/PoseStamped", "yaw", QUARTER_TURN, [np.pi / 2]),
        ("geometry_msgs/msg/PoseStamped", "yaw_cos_sin", QUARTER_TURN, [0, 1]),
        (
            "geometry_msgs/msg/TwistStamped",
            "linear",
            TwistReading(np.array([1.0, 2, 3]), np.array([4.0, 5, 6])),
            [1, 2, 3],
        ),
        (
            "geometry_msgs/msg/TwistStamped",
            "angular",
            TwistReading(np.array([1.0, 2, 3]), np.array([4.0, 5, 6])),
            [4, 5, 6],
        ),
        (
            "geometry_msgs/msg/WrenchStamped",
            "force",
            WrenchReading(np.array([1.0, 2, 2]), np.array([4.0, 0, 0])),
            [1, 2, 2],
        ),
        (
            "geometry_msgs/msg/WrenchStamped",
            "torque",
            WrenchReading(np.array([1.0, 2, 2]), np.array([4.0, 0, 0])),
            [4, 0, 0],
        ),
        (
            "geometry_msgs/msg/WrenchStamped",
            "wrench_norm",
            WrenchReading(np.array([1.0, 2, 2]), np.array([4.0, 0, 0])),
            [5],
        ),
        ("geometry_msgs/msg/PoseStamped", "quaternion_xyzw", QUARTER_TURN, [0, 0, 0.5**0.5, 0.5**0.5]),
        ("std_msgs/msg/Float32MultiArray", "data", VectorReading(np.array([7.0, 8.0])), [7, 8]),
        ("std_msgs/msg/Float64MultiArray", "data", VectorReading(np.array([7.0, 8.0])), [7, 8]),
    ],
)
def test_every_extraction_takes_what_its_name_says(
    message: str, extraction: str, reading: Reading, expected: list[float]
) -> None:
    contract = field(message, extraction, len(expected))
    np.testing.assert_allclose(extract(contract, reading), expected, atol=1e-12)


def test_offset_then_scale_then_clip() -> None:
    contract = field("std_msgs/msg/Float64MultiArray", "data", 3, offset=(1.0, 2.0, 3.0), scale=10.0, clip=(-5.0, 15.0))
    assert extract(contract, VectorReading(np.array([1.5, 4.0, 0.0]))).tolist() == [5.0, 15.0, -5.0]


@pytest.mark.parametrize("angle", [-3.1, -1.0, 0.0, 0.5, 3.1])
def test_yaw_of_a_rotation_about_z_is_its_angle(angle: float) -> None:
    assert yaw_of(np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])) == pytest.approx(angle)


@pytest.mark.parametrize(
    ("contract", "reading", "message"),
    [
        (JOINTS, JointReading(("a",), np.zeros(1), NONE, NONE), r"no joint b; it has a"),
        (JOINTS, JointReading((), NONE, NONE, NONE), r"no joint b, a; it has none"),
        (JOINTS, JointReading(("a", "b"), np.zeros(3), NONE, NONE), r"3 values for 2 joints"),
        (JOINTS, QUARTER_TURN, r"gave a PoseReading, expected JointReading"),
        (POSITION, PoseReading(np.array([0, np.inf, 0]), np.zeros(4)), r"not finite"),
        (
            field("std_msgs/msg/Float64MultiArray", "data", 2),
            VectorReading(np.zeros(3)),
            r"shape \(3,\), expected \(2,\)",
        ),
    ],
)
def test_a_reading_that_does_not_fit_is_refused_by_name(
    contract: ObservationField, reading: Reading, message: str
) -> None:
    with pytest.raises(ObservationError, match=f"field block: topic sensor.*{message}"):
        extract(contract, reading)


@pytest.fixture
def assembler() -> ObservationAssembler:
    pose = {"message": "geometry_msgs/msg/PoseStamped", "topic": "pose", "max_age": 0.5}
    return ObservationAssembler(
        [
            field("std_msgs/msg/Float64MultiArray", "data", 1, name="a", topic="vector", max_age=0.2),
            field(extraction="position", size=3, name="b", **pose),
            field(extraction="yaw", size=1, name="c", **pose),
        ],
        0.05,
    )


def test_the_vector_is_the_blocks_in_order_with_the_newest_stamp(assembler: ObservationAssembler) -> None:
    assembler.update("pose", SECOND, QUARTER_TURN)
    assembler.update("vector", SECOND + 7, VectorReading(np.array([9.0])))
    observation = assembler.assemble(SECOND + 10)
    assert observation.vector.dtype == np.float32
    np.testing.assert_array_equal(observation.vector, np.array([9, 1, 2, 3, np.pi / 2], dtype=np.float32))
    assert observation.stamp == SECOND + 7
    assert assembler.topics == ("vector", "pose")


def test_an_older_reading_does_not_replace_a_newer_one(assembler: ObservationAssembler) -> None:
    assembler.update("pose", SECOND, QUARTER_TURN)
    assembler.update("vector", SECOND, VectorReading(np.array([2.0])))
    assembler.update("vector", SECOND - 1, VectorReading(np.array([1.0])))
    assert assembler.assemble(SECOND).vector[0] == 2.0


def test_age_is_judged_field_by_field(assembler: ObservationAssembler) -> None:
    assembler.update("pose", SECOND, QUARTER_TURN)
    assembler.update("vector", SECOND, VectorReading(np.zeros(1)))
    assembler.assemble(SECOND + 199_000_000)
    with pytest.raises(ObservationError, match=r"field a: topic vector is stale, 0\.201 s old, at most 0\.2 s"):
        assembler.assemble(SECOND + 201_000_000)
    assembler.update("vector", SECOND + 600_000_000, VectorReading(np.zeros(1)))
    with pytest.raises(ObservationError, match="field b: topic pose is stale"):
        assembler.assemble(SECOND + 600_000_000)


def test_a_stamp_from_the_future_points_at_the_clocks(assembler: ObservationAssembler) -> None:
    assembler.update("pose", SECOND, QUARTER_TURN)
    assembler.update("vector", SECOND, VectorReading(np.zeros(1)))
    with pytest.raises(ObservationError, match=r"field a: .* 0\.300 s in the future.*use_sim_time"):
        assembler.assemble(SECOND - 300_000_000)


def test_a_silent_topic_is_named(assembler: ObservationAssembler) -> None:
    assembler.update("vector", SECOND, VectorReading(np.zeros(1)))
    with pytest.raises(ObservationError, match="field b: nothing received yet on topic pose"):
        assembler.assemble(SECOND)


def test_stamps_are_synchronised_only_when_all_are_equal(assembler: ObservationAssembler) -> None:
    assert assembler.synchronised_stamp is None
    assembler.update("pose", 5, QUARTER_TURN)
    assert assembler.synchronised_stamp is None
    assembler.update("vector", 5, VectorReading(np.zeros(1)))
    assert assembler.synchronised_stamp == 5
    assembler.update("vector", 6, VectorReading(np.zeros(1)))
    assert assembler.synchronised_stamp is None
    assembler.clear()
    assert assembler.synchronised_stamp is None


def test_cosines_of_the_joints_come_before_their_sines() -> None:
    angles = np.array([0.3, -1.2])
    contract = field("sensor_msgs/msg/JointState", "joint_position_cos_sin", 4, joints=("b", "a"))
    got = extract(contract, JointReading(("a", "b"), angles[::-1], NONE, NONE))
    np.testing.assert_allclose(got, [*np.cos(angles), *np.sin(angles)])


def test_components_are_taken_in_their_order() -> None:
    contract = field("geometry_msgs/msg/PoseStamped", "position", 2, components=(2, 0))
    assert extract(contract, QUARTER_TURN).tolist() == [3.0, 1.0]


VECTOR = "std_msgs/msg/Float64MultiArray"
MILLISECOND = 1_000_000


def history(count: int) -> ObservationAssembler:
    return ObservationAssembler([field(VECTOR, "data", count, history=count)], 0.05)


def test_a_history_holds_the_readings_nearest_to_each_control_period_oldest_first() -> None:
    assembler = history(3)
    for k in range(40):  # every 10 ms
        assembler.update("sensor", SECOND + 10 * k * MILLISECOND, VectorReading(np.array([float(k)])))
    assert assembler.assemble(SECOND + 390 * MILLISECOND).vector.tolist() == [29.0, 34.0, 39.0]


def test_a_history_is_not_filled_up_with_what_was_never_measured() -> None:
    assembler = history(3)
    for k in (0, 1):
        assembler.update("sensor", SECOND + 50 * k * MILLISECOND, VectorReading(np.array([float(k)])))
    with pytest.raises(ObservationError, match=r"topic sensor has no reading 0\.100 s before its newest"):
        assembler.assemble(SECOND + 50 * MILLISECOND)
    assembler.update("sensor", SECOND + 100 * MILLISECOND, VectorReading(np.array([2.0])))
    assert assembler.assemble(SECOND + 100 * MILLISECOND).vector.tolist() == [0.0, 1.0, 2.0]
    assembler.update("sensor", SECOND + 200 * MILLISECOND, VectorReading(np.array([4.0])))
    with pytest.raises(ObservationError, match=r"no reading 0\.050 s before its newest"):
        assembler.assemble(SECOND + 200 * MILLISECOND)


@pytest.mark.parametrize("shift", [-26, -25, -1, 1, 25, 26])
def test_a_reading_of_a_history_may_be_half_a_period_early_or_late_and_no_more(shift: int) -> None:
    assembler = history(2)
    assembler.update("sensor", SECOND + shift * MILLISECOND, VectorReading(np.array([7.0])))
    assembler.update("sensor", SECOND + 50 * MILLISECOND, VectorReading(np.array([8.0])))
    if abs(shift) <= 25:
        assert assembler.assemble(SECOND + 50 * MILLISECOND).vector.tolist() == [7.0, 8.0]
    else:
        with pytest.raises(ObservationError, match=r"no reading 0\.050 s before its newest"):
            assembler.assemble(SECOND + 50 * MILLISECOND)


def two_rates(alignment: str) -> ObservationAssembler:
    fields = [
        field(VECTOR, "data", 1, name="slow", topic="slow", max_age=0.5),
        field(VECTOR, "data", 1, name="fast", topic="fast", max_age=0.1),
    ]
    assembler = ObservationAssembler(fields, 0.05, alignment)
    assembler.update("slow", SECOND + 103 * MILLISECOND, VectorReading(np.array([-1.0])))
    for k in range(41):  # every 10 ms, to 300 ms after the slow one
        assembler.update("fast", SECOND + 10 * k * MILLISECOND, VectorReading(np.array([float(k)])))
    return assembler


def test_latest_takes_the_newest_of_each_topic() -> None:
    observation = two_rates("latest").assemble(SECOND + 410 * MILLISECOND)
    assert observation.vector.tolist() == [-1.0, 40.0]
    assert observation.stamp == SECOND + 400 * MILLISECOND


def test_nearest_takes_of_the_fast_topic_what_belongs_to_the_slow_one() -> None:
    observation = two_rates("nearest").assemble(SECOND + 410 * MILLISECOND)
    assert observation.vector.tolist() == [-1.0, 10.0]
    assert observation.stamp == SECOND + 400 * MILLISECOND, "ticks go on at the pace of the fast topic"


@pytest.mark.parametrize("alignment", ["latest", "nearest"])
def test_a_topic_that_fell_silent_is_stale_however_it_is_aligned(alignment: str) -> None:
    with pytest.raises(ObservationError, match="field fast: topic fast is stale"):
        two_rates(alignment).assemble(SECOND + 520 * MILLISECOND)


def test_a_goal_holds_until_it_is_replaced_and_completes_nothing() -> None:
    goal = field(VECTOR, "data", 1, name="goal", topic="goal", max_age=None)
    assembler = ObservationAssembler([POSITION, goal], 0.05)
    assembler.update("sensor", 100 * SECOND, QUARTER_TURN)
    with pytest.raises(ObservationError, match="field goal: nothing received yet on topic goal"):
        assembler.assemble(100 * SECOND)
    assembler.update("goal", SECOND, VectorReading(np.array([7.0])))
    assert assembler.synchronised_stamp == 100 * SECOND
    observation = assembler.assemble(100 * SECOND)
    assert (observation.vector[3], observation.stamp) == (7.0, 100 * SECOND)
    assembler.clear()
    assembler.update("sensor", 200 * SECOND, QUARTER_TURN)
    assert assembler.assemble(200 * SECOND).vector[3] == 7.0
    assembler.update("goal", 0, VectorReading(np.array([8.0])))
    assert assembler.assemble(200 * SECOND).vector[3] == 8.0, "whatever its stamp: the clock may have restarted"


def test_a_constant_is_repeated_for_every_instant_of_a_history() -> None:
    constant = field(VECTOR, "data", 4, name="c", history=2, constant=(1.0, 2.0), offset=(0.5, 0.0), scale=2.0)
    assembler = ObservationAssembler([POSITION, constant], 0.05)
    assembler.update("sensor", SECOND, QUARTER_TURN)
    assert assembler.assemble(SECOND).vector[3:].tolist() == [1.0, 4.0, 1.0, 4.0]


TURN = field("geometry_msgs/msg/PoseStamped", "quaternion_wxyz", 4)
#: Of data in which z > 0 and w has both signs.
SIGNED = TURN.model_copy(update={"mean_quaternion": (0.0, 0.0, 0.0, 1.0)})


def turned(*xyzw: float) -> PoseReading:
    return PoseReading(np.zeros(3), np.array(xyzw))


@pytest.mark.parametrize("extraction", ["quaternion_wxyz", "quaternion_xyzw", "yaw", "yaw_cos_sin"])
@pytest.mark.parametrize("length", [0.0, 0.9, 0.98, 1.02, 2.0, 1e200])
def test_a_quaternion_that_is_no_rotation_is_refused_by_the_name_of_its_field(extraction: str, length: float) -> None:
    contract = field("geometry_msgs/msg/PoseStamped", extraction, {"yaw": 1, "yaw_cos_sin": 2}.get(extraction, 4))
    with pytest.raises(
        ObservationError, match="field block: topic sensor gives a quaternion of length .* expected 1, to 1%"
    ):
        extract(contract, turned(0.0, 0.0, 0.6 * length, 0.8 * length))


def test_where_only_the_position_is_taken_a_quaternion_may_be_anything() -> None:
    assert extract(POSITION, turned(0.0, 0.0, 0.0, 0.0)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("length", [0.991, 0.9999, 1.00001, 1.009])
def test_a_quaternion_of_nearly_length_1_is_brought_to_it(length: float) -> None:
    assert extract(TURN, turned(0.0, 0.0, 0.6 * length, 0.8 * length)) == pytest.approx([0.8, 0.0, 0.0, 0.6], abs=1e-12)


def test_a_quaternion_that_is_off_by_rounding_keeps_every_bit() -> None:
    random = np.random.default_rng(0)
    for values in random.standard_normal((200, 4)):
        unit = values / np.linalg.norm(values)
        for q in (unit, unit.astype(np.float32).astype(np.float64)):
            assert extract(TURN, turned(*q)).tolist() == [q[3], q[0], q[1], q[2]]


def test_a_quaternion_with_nan_is_not_finite_rather_than_long() -> None:
    for contract in (TURN, field("geometry_msgs/msg/PoseStamped", "yaw", 1)):
        with pytest.raises(ObservationError, match="not finite"):
            extract(contract, turned(np.nan, 0.0, 0.0, 1.0))


@pytest.mark.parametrize("w", [-0.73, 0.0, 0.98])
def test_of_a_quaternion_and_its_opposite_the_one_near_the_training_data_is_taken(w: float) -> None:
    z = float(np.sqrt(1.0 - w * w))
    for sign in (1.0, -1.0):
        assert extract(SIGNED, turned(0.0, 0.0, sign * z, sign * w)).tolist() == [w, 0.0, 0.0, z]
        as_it_is = extract(TURN, turned(0.0, 0.0, sign * z, sign * w))
        assert as_it_is.tolist() == [sign * w, 0.0, 0.0, sign * z]


def test_components_of_a_quaternion_have_the_sign_of_the_whole() -> None:
    part = SIGNED.model_copy(update={"components": (0,), "size": 1})
    assert extract(part, turned(0.0, 0.0, -0.8, 0.6)).tolist() == [-0.6]


def test_what_is_not_plausible_is_refused_by_field_topic_and_component() -> None:
    both = (
        JOINTS,
        field("geometry_msgs/msg/PoseStamped", "position", 3, name="place", topic="pose", unit="m", history=1),
    )
    wide = np.full(2, 3.0)
    known = demonstrations_of(both, np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=np.float32), "mine.npz").fields
    expected = (
        Expected(both[0], both[0], known["block"], -wide, wide),
        Expected(both[1], both[1], known["place"], np.full(3, -10.0), np.full(3, 10.0)),
    )
    assembler = ObservationAssembler(both, 0.05, expected=expected)
    joint = JointReading(("a", "b"), np.array([1.0, 2.0]), NONE, NONE)
    assembler.update("sensor", SECOND, joint)
    assembler.update("pose", SECOND, PoseReading(np.array([1.0, 9.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])))
    assert assembler.assemble(SECOND).vector.tolist() == [2.0, 1.0, 1.0, 9.0, 0.0]
    assembler.update("pose", SECOND, PoseReading(np.array([1.0, 425.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])))
    with pytest.raises(
        ObservationError, match="field place: topic pose is not plausible: y is 425 m, plausible is -10 to 10"
    ):
        assembler.assemble(SECOND)
    assembler.update("sensor", SECOND, JointReading(("a", "b"), np.array([np.nan, 2.0]), NONE, NONE))
    with pytest.raises(ObservationError, match="field block: topic sensor holds a value that is not finite"):
        assembler.assemble(SECOND)


def test_a_sign_that_follows_begins_near_the_mean_and_then_stays_continuous_whatever_the_driver_sends() -> None:
    follows = SIGNED.model_copy(update={"sign_follows": True})
    half = np.linspace(0.3, 6.0, 50)
    truth = np.column_stack([np.cos(half), 0.0 * half, 0.0 * half, np.sin(half)])
    random = np.random.default_rng(0)
    for signs in (np.ones(50), -np.ones(50), random.choice([-1.0, 1.0], 50)):
        assembler = ObservationAssembler([follows], 0.05)
        for step, (sign, (w, _, _, z)) in enumerate(zip(signs, truth)):
            stamp = SECOND + step * SECOND // 20
            assembler.update("sensor", stamp, turned(0.0, 0.0, sign * z, sign * w))
            np.testing.assert_array_equal(assembler.assemble(stamp).vector, truth[step].astype(np.float32))
        later = stamp + SECOND  # as after a reset: it begins anew
        assembler.update("sensor", later, turned(0.0, 0.0, -0.6, 0.8))
        assert assembler.assemble(later).vector.tolist() == pytest.approx([-0.8, 0.0, 0.0, 0.6])
        assembler.clear()
        assembler.update("sensor", later, turned(0.0, 0.0, -1.0, 0.0))
        assert assembler.assemble(later).vector.tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("gap", "follows"), [(900_000_000, True), (900_000_001, False)])
def test_a_sign_follows_for_nine_tenths_of_a_second_without_a_reading_and_no_longer(gap: int, follows: bool) -> None:
    assembler = ObservationAssembler([SIGNED.model_copy(update={"sign_follows": True})], 0.05)
    assembler.update("sensor", SECOND, turned(0.0, 0.0, 0.6, -0.8))
    assembler.update("sensor", SECOND + gap, turned(0.0, 0.0, 0.28, 0.96))
    sign = -1.0 if follows else 1.0
    assert assembler.assemble(SECOND + gap).vector.tolist() == pytest.approx([sign * 0.96, 0.0, 0.0, sign * 0.28])


def test_no_sign_follows_from_a_reading_that_was_from_the_future() -> None:
    assembler = ObservationAssembler([SIGNED.model_copy(update={"sign_follows": True})], 0.05)
    assembler.update("sensor", SECOND, turned(0.0, 0.0, 0.6, 0.8))
    assembler.update("sensor", SECOND + 500_000_000, turned(0.0, 0.0, 0.9, -0.43589))
    assembler.update("sensor", 3600 * SECOND, turned(0.0, 0.0, 0.0, -1.0))
    assert assembler.forget_future(2 * SECOND) == ["sensor"]
    assembler.update("sensor", 2 * SECOND, turned(0.0, 0.0, -0.6, -0.8))
    assert assembler.assemble(2 * SECOND).vector.tolist() == pytest.approx([0.8, 0.0, 0.0, 0.6])


def test_a_sign_follows_over_readings_that_are_no_rotation() -> None:
    follows = SIGNED.model_copy(update={"sign_follows": True})
    assembler = ObservationAssembler([follows], 0.05)
    for step, q in enumerate([(0.0, 0.0, 1.0, 0.0), (np.nan, 0.0, 0.0, 1.0), (0.0, 0.0, -0.8, 0.6)]):
        assembler.update("sensor", SECOND + step, turned(*q))
    assert assembler.assemble(SECOND + 2).vector.tolist() == pytest.approx([-0.6, 0.0, 0.0, 0.8])
