"""The message types that observations are read from: what each gives, and how a field says which part of it is meant."""

from __future__ import annotations

from collections.abc import Mapping

#: Message types that hold much more than one field is about: it names the frames, or the object, that it means.
TRANSFORMS, DETECTIONS = "tf2_msgs/msg/TFMessage", "vision_msgs/msg/Detection3DArray"

_ROTATION = {"quaternion_wxyz": 4, "quaternion_xyzw": 4, "yaw": 1, "yaw_cos_sin": 2, "rotation_6d": 6}
_POSE = {"position": 3, **_ROTATION}
_TWIST = {"linear": 3, "angular": 3}

#: What can be taken out of each message type, and how many values that is; None: what a message has, or joints have, of it.
EXTRACTIONS: dict[str, Mapping[str, int | None]] = {
    "sensor_msgs/msg/JointState": dict.fromkeys(
        ("joint_position", "joint_position_cos_sin", "joint_velocity", "joint_effort")
    ),
    "geometry_msgs/msg/PoseStamped": _POSE,
    "geometry_msgs/msg/TwistStamped": _TWIST,
    "geometry_msgs/msg/WrenchStamped": {"force": 3, "torque": 3, "wrench_norm": 1},
    "std_msgs/msg/Float32MultiArray": {"data": None},
    "std_msgs/msg/Float64MultiArray": {"data": None},
    "nav_msgs/msg/Odometry": {**_POSE, **_TWIST},
    "sensor_msgs/msg/Imu": {**_ROTATION, "angular": 3, "linear_acceleration": 3},
    "sensor_msgs/msg/Range": {"range": 1},
    TRANSFORMS: _POSE,
    DETECTIONS: _POSE,
}

#: Message types without a header: a reading is as old as its arrival.
UNSTAMPED = ("std_msgs/msg/Float32MultiArray", "std_msgs/msg/Float64MultiArray")

#: What says which part of a message a field is about, and where it must come from.
NAMED = ("frame_id", "child_frame_id", "object_id")
#: What a field of a message type must name, and what it may; others may name the frame_id of their header.
_NAMES = {
    **dict.fromkeys((*UNSTAMPED, "sensor_msgs/msg/JointState"), ("", "")),
    "nav_msgs/msg/Odometry": ("", "frame_id child_frame_id"),
    TRANSFORMS: ("frame_id child_frame_id", ""),
    DETECTIONS: ("object_id", "frame_id"),
}
#: Ending of the topic of the transforms that never change, which are said once and kept for who comes later.
STATIC = "_static"


def misnamed(message_type: str, names: Mapping[str, str]) -> str | None:
    """Say what a field of a message type has to name, and does not, or names in vain; None if neither.

    Args:
        message_type: One of `EXTRACTIONS`.
        names: What it names, of `NAMED`.
    """
    must, may = _NAMES.get(message_type, ("", "frame_id"))
    if missing := [name for name in must.split() if name not in names]:
        return f"a {message_type} needs {' and '.join(missing)}, to say what of it is meant"
    if needless := [name for name in names if name not in f"{must} {may}".split()]:
        return f"{needless[0]} {names[needless[0]]} was given, and a {message_type} has none that could be compared"
    if message_type == TRANSFORMS and names["frame_id"] == names["child_frame_id"]:
        return f"frame_id and child_frame_id are both {names['frame_id']}; give that in which it is seen, and that which is seen"
    return None


def source_of(topic: str, message_type: str, names: Mapping[str, str]) -> str:
    """Return what readings are kept by: a topic, and of one with much in it what is read of that, as `misnamed` has it."""
    if message_type == TRANSFORMS:
        return f"{topic} from {names['frame_id']} to {names['child_frame_id']}"
    return f"{topic} of {names['object_id']}" if message_type == DETECTIONS else topic


def topics_of(topic: str, message_type: str) -> tuple[str, ...]:
    """Return the topics that are heard for a field: transforms that never change come on one of their own."""
    moving = topic.removesuffix(STATIC)  # either of the two stands for both
    return (moving, moving + STATIC) if message_type == TRANSFORMS else (topic,)
