"""Joints that come in several messages of one topic: merged by name, each with its own stamp and age."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.control.extraction import JointReading, PoseReading
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.errors import ObservationError

SECOND, MILLISECOND = 1_000_000_000, 1_000_000
ARM, GRIPPER = ("pan", "lift"), ("finger",)


def field(name: str, joints: tuple[str, ...], **changes: Any) -> ObservationField:
    values = {"extraction": "joint_position", "size": len(joints), "unit": "rad", **changes}
    return ObservationField(
        name=name, topic="joints", message_type="sensor_msgs/msg/JointState", joints=joints, **values
    )


def reading(names: tuple[str, ...], *position: float, velocity: tuple[float, ...] = ()) -> JointReading:
    return JointReading(names, np.array(position), np.array(velocity), np.empty(0))


@pytest.fixture
def assembler() -> ObservationAssembler:
    return ObservationAssembler([field("arm", ("lift", "pan")), field("opening", GRIPPER, max_age=0.5)], 0.05)


def test_joints_of_two_messages_make_the_vector_of_one_to_the_bit(assembler: ObservationAssembler) -> None:
    assembler.update("joints", SECOND, reading((*ARM, *GRIPPER), 0.1, 0.2, 0.3))
    whole = assembler.assemble(SECOND)
    assembler.clear()
    for part in (reading(ARM, 0.1, 0.2), reading(GRIPPER, 0.3)):
        assembler.update("joints", SECOND, part)
    split = assembler.assemble(SECOND)
    assert split.vector.tobytes() == whole.vector.tobytes()
    assert split.stamp == whole.stamp == SECOND


def test_the_stamp_is_the_newest_and_a_message_that_came_late_still_counts_for_its_joints(
    assembler: ObservationAssembler,
) -> None:
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3))
    assembler.update("joints", SECOND + 10 * MILLISECOND, reading(ARM, 0.1, 0.2))
    assembler.update("joints", SECOND + 5 * MILLISECOND, reading(GRIPPER, 0.4))  # overtaken by that of the arm
    assembler.update("joints", SECOND + 4 * MILLISECOND, reading(GRIPPER, 9.0))  # and by its own successor
    observation = assembler.assemble(SECOND + 20 * MILLISECOND)
    np.testing.assert_allclose(observation.vector, [0.2, 0.1, 0.4])
    assert observation.stamp == SECOND + 10 * MILLISECOND


def test_each_joint_is_as_old_as_its_own_message(assembler: ObservationAssembler) -> None:
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3))
    later = SECOND + 400 * MILLISECOND
    assembler.update("joints", later, reading(ARM, 0.1, 0.2))
    assembler.assemble(later)  # the opening may be 0.5 s old
    later += 110 * MILLISECOND
    assembler.update("joints", later, reading(ARM, 0.1, 0.2))
    with pytest.raises(
        ObservationError, match=r"field opening: joint finger of topic joints is stale, 0\.510 s old, at most 0\.5 s"
    ):
        assembler.assemble(later)
    assembler.update("joints", later, reading(GRIPPER, 0.3))
    assembler.assemble(later)


def test_a_joint_that_nobody_names_is_missed(assembler: ObservationAssembler) -> None:
    assembler.update("joints", SECOND, reading(ARM, 0.1, 0.2))
    with pytest.raises(ObservationError, match="field opening: topic joints has no joint finger; it has pan, lift"):
        assembler.assemble(SECOND)


@pytest.mark.parametrize("names", [("pan", "wrist"), ("pan",), ()])
def test_names_that_change_are_no_part_of_what_was_before(
    assembler: ObservationAssembler, names: tuple[str, ...]
) -> None:
    """Otherwise the joint that is missing would pass for a moment as one that only comes later."""
    assembler.update("joints", SECOND, reading((*ARM, *GRIPPER), 0.1, 0.2, 0.3))
    assembler.update("joints", SECOND + MILLISECOND, reading(names, *[0.0] * len(names)))
    with pytest.raises(ObservationError, match="field arm: topic joints has no joint lift"):
        assembler.assemble(SECOND + MILLISECOND)
    assembler.update("joints", SECOND + 2 * MILLISECOND, reading((*ARM, *GRIPPER), 0.1, 0.2, 0.3))
    assembler.assemble(SECOND + 2 * MILLISECOND)


def test_from_parts_to_whole_messages_and_back(assembler: ObservationAssembler) -> None:
    for turn in range(1, 7):
        stamp = turn * SECOND
        if turn % 2:
            assembler.update("joints", stamp, reading(ARM, 0.1 * turn, 0.2))
            assembler.update("joints", stamp, reading(GRIPPER, 0.3))
        else:
            assembler.update("joints", stamp, reading((*GRIPPER, *ARM), 0.3, 0.1 * turn, 0.2))
        np.testing.assert_allclose(assembler.assemble(stamp).vector, [0.2, 0.1 * turn, 0.3], rtol=1e-6)
        assert assembler.is_whole("joints")


def test_messages_about_other_joints_are_passed_over(assembler: ObservationAssembler) -> None:
    assert assembler.update("joints", SECOND, reading((*ARM, *GRIPPER), 0.1, 0.2, 0.3))
    assert not assembler.update("joints", SECOND + 90 * MILLISECOND, reading(("wheel",), 5.0))
    observation = assembler.assemble(SECOND + 100 * MILLISECOND)
    assert observation.stamp == SECOND
    with pytest.raises(ObservationError, match="topic joints is stale"):
        assembler.assemble(SECOND + 300 * MILLISECOND)


def test_a_topic_is_whole_when_all_its_joints_have_one_stamp(assembler: ObservationAssembler) -> None:
    assembler.update("joints", SECOND, reading(ARM, 0.1, 0.2))
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3))
    assert assembler.is_whole("joints")
    assembler.update("joints", 2 * SECOND, reading(ARM, 0.1, 0.2))
    assert not assembler.is_whole("joints")
    assembler.update("joints", 2 * SECOND, reading(GRIPPER, 0.3))
    assert assembler.is_whole("joints")
    assert assembler.is_whole("another")


def test_a_part_with_another_number_of_values_than_joints_is_told_as_in_a_whole_message() -> None:
    fields = [field("arm", ARM), field("speed", GRIPPER, extraction="joint_velocity")]
    assembler = ObservationAssembler(fields, 0.05)
    assembler.update("joints", SECOND, reading(ARM, 0.1, 0.2))  # whose speed nobody asks for
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3, velocity=(0.7,)))
    np.testing.assert_allclose(assembler.assemble(SECOND).vector, [0.1, 0.2, 0.7])
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3))
    with pytest.raises(ObservationError, match="field speed: topic joints carries 0 values for 1 joints"):
        assembler.assemble(SECOND)
    assembler.update("joints", SECOND, reading(GRIPPER, 0.3, velocity=(0.7,)))
    assembler.update("joints", SECOND, reading(ARM, 0.1, 0.2, 0.3))
    with pytest.raises(ObservationError, match="field arm: topic joints carries 3 values for 2 joints"):
        assembler.assemble(SECOND)


def test_a_history_of_joints_in_parts_holds_all_of_them_at_each_instant() -> None:
    assembler = ObservationAssembler([field("all", (*ARM, *GRIPPER), size=6, history=2)], 0.05)
    for k in range(2):
        assembler.update("joints", SECOND + 50 * k * MILLISECOND, reading(ARM, 1.0 + k, 2.0 + k))
        assembler.update("joints", SECOND + 50 * k * MILLISECOND, reading(GRIPPER, 3.0 + k))
    assert assembler.assemble(SECOND + 50 * MILLISECOND).vector.tolist() == [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]


def test_what_is_no_reading_of_joints_is_refused_as_ever(assembler: ObservationAssembler) -> None:
    assembler.update("joints", SECOND, PoseReading(np.zeros(3), np.zeros(4)))
    with pytest.raises(ObservationError, match="gave a PoseReading, expected JointReading"):
        assembler.assemble(SECOND)
