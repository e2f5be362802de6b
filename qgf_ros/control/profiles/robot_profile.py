"""What every robot of a kind has in common: a profile, one YAML file in ``config/robots``.

A profile says nothing of a policy; `profile_template` puts the two together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from qgf_ros.bundle.fields import Finite, Name, Positive, Record, Topic
from qgf_ros.bundle.locate import locate_robot
from qgf_ros.bundle.text import first_complaint
from qgf_ros.control.output_source import OutputSource
from qgf_ros.control.robot_contract import DriverState, read_yaml
from qgf_ros.errors import ContractError

#: What a topic of a robot tells, and with which message.
MESSAGES = {
    "joints": "sensor_msgs/msg/JointState",
    "tool": "geometry_msgs/msg/PoseStamped",
    "force": "geometry_msgs/msg/WrenchStamped",
}


class JointLimits(Record):
    """What a joint can do [rad, rad/s, rad/s^2; m for one that slides]."""

    lower: Finite
    upper: Finite
    max_rate: Positive
    max_acceleration: Positive | None = None


class ProfileTopic(Record):
    """A topic that the driver publishes.

    Attributes:
        tells: What is on it: positions of the joints, the pose of the tool, or forces at the tool.
        topic: Its name.
        rate: How often [Hz].
        max_age: Oldest acceptable message [s]; a bundle that wants younger ones keeps its own.
    """

    tells: Literal["joints", "tool", "force"]
    topic: Topic
    rate: Positive
    max_age: Positive


class ProfileOutput(Record):
    """A controller, and what it is sent.

    Attributes:
        takes: Which components of an action: positions of joints, displacements of the tool, or the gripper.
        controller: Its name for ros2_control, or of the node that it is.
        joints: In the order of its ``joints`` parameter; all of the profile by default. For positions of joints only.
        send: The output, without its fields.
        unit, range: Of a gripper: in which its controller counts, and from where to where.
    """

    takes: Literal["joints", "tool", "gripper"]
    controller: str
    joints: tuple[Name, ...] = ()
    send: OutputSource
    unit: str = ""
    range: tuple[Finite, Finite] | None = None

    @model_validator(mode="after")
    def _fitting(self) -> ProfileOutput:
        if (self.takes == "gripper") != (self.range is not None):
            raise ValueError(f"{self.controller}: range is for what takes the gripper, and it needs one")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"{self.controller}: range {list(self.range)} must be (lower, upper)")
        if self.send.fields is not None:
            raise ValueError(f"{self.controller}: fields are the bundle's; leave them out of the profile")
        return self


class RobotProfile(Record):
    """A kind of robot.

    Attributes:
        robot: Maker and model.
        driver: Who publishes the topics and runs the controllers.
        sources: Where names and numbers come from.
        joints: Limits by name, in the order of the controllers.
        gripper: Names under which policies command it; the first is that of its joint.
        topics: What it publishes.
        driver_state: Where the driver tells whether the robot takes commands.
        outputs: What it can be sent; of those that fit a bundle the first is used, the others are there to choose.
    """

    robot: str
    driver: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    joints: Annotated[dict[Name, JointLimits], Field(min_length=1)]
    gripper: tuple[Name, ...] = ()
    topics: Annotated[tuple[ProfileTopic, ...], Field(min_length=1)]
    driver_state: tuple[DriverState, ...] = ()
    outputs: Annotated[tuple[ProfileOutput, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> RobotProfile:
        for name, limits in self.joints.items():
            if limits.lower >= limits.upper:
                raise ValueError(f"joint {name}: lower {limits.lower} must be below upper {limits.upper}")
        for output in self.outputs:
            unknown = [name for name in output.joints if name not in self.joints]
            if unknown:
                raise ValueError(
                    f"{output.controller} takes joint {unknown[0]}, which is not among {', '.join(self.joints)}"
                )
        told = [topic.tells for topic in self.topics]
        if len(set(told)) != len(told):
            raise ValueError(f"topics tell {', '.join(told)}, expected each once")
        return self

    def topic(self, tells: str) -> ProfileTopic | None:
        """Return the topic that tells something, or None."""
        return next((topic for topic in self.topics if topic.tells == tells), None)


def read_profile(name: str) -> RobotProfile:
    """Read the profile of a robot.

    Args:
        name: Such as ``ur5e``, or the path of a file.

    Raises:
        ContractError: There is none, or it is not one; the message lists the robots there are, or says where and why.
    """
    path = locate_robot(name)
    values = read_yaml(path)
    try:
        return RobotProfile.model_validate(values)
    except ValidationError as error:
        raise ContractError(f"{path} is not a robot profile: {first_complaint(error)}") from error
