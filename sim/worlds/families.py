"""The families of OGBench's manipulation tasks: what stands in each scene, and so what its robot observes.

One table holds every difference between them that this package needs to know; tasks, rewards, success and the length
of an episode are OGBench's own. Nothing here needs MuJoCo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qgf_ros.bundle.cameras import CameraField
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.goal_fields import field_of_goal
from qgf_ros.errors import SimulationError

ARM_JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
GRIPPER_JOINT = "right_driver_joint"

# OGBench's observation scaling, see compute_observation of its environments.
_CENTRE = (0.425, 0.0, 0.0)
_POSITION_SCALE = 10.0
_GRIPPER_SCALE = 3.0
_GRIPPER_CLOSED = 0.8  # [rad] of the driver joint
_CONTACT_FULL = 50.0  # norm of the contact wrench on the pad that counts as full contact
_BUTTON_SCALE = 120.0

# How far from its goal OGBench takes an object for where it is to be [m].
_REACHED = 0.04


#: What a task rewards: minus the number of objects that are not where it wants them, or -1 as long as there is one.
Reward = Literal["dense", "sparse"]


@dataclass(frozen=True)
class Slide:
    """A sliding object, such as a drawer.

    Attributes:
        name: What it is called in the observation.
        joint: Its joint.
        scale: Factor of the joint's position [m] in the observation.
    """

    name: str
    joint: str
    scale: float


@dataclass(frozen=True)
class Family:
    """What the tasks of one environment have in common.

    Attributes:
        cubes: Number of cubes.
        buttons: Number of buttons; each has the state 0 or 1.
        slides: Sliding objects, in the order of the observation.
        stacking: Data collection: an episode draws from this range how likely a cube is to be put on another one.
        random_actions: Data collection with noise: probability of a random action, as in OGBench's own data sets.
        reward: What critics are trained with where nothing else is said: sparse where an object must be undone to set
            another right, which the dense reward makes too dear (see `worlds.optima`).
        armless_goals: Whether a goal-conditioned policy is told where the objects are to be, and not the arm.
        visual: Whether its robot sees the objects, by the camera `CAMERA`, instead of being told where they are.
    """

    cubes: int = 0
    buttons: int = 0
    slides: tuple[Slide, ...] = ()
    stacking: tuple[float, float] = (0.0, 0.0)
    random_actions: float = 0.0
    reward: Reward = "dense"
    armless_goals: bool = False
    visual: bool = False

    @property
    def button_names(self) -> tuple[str, ...]:
        """Names that the states of the buttons go by."""
        return tuple(f"button_{i}" for i in range(self.buttons))

    @property
    def object_joints(self) -> tuple[str, ...]:
        """Joints of the buttons and of the sliding objects."""
        return (*(_button_joint(i) for i in range(self.buttons)), *(slide.joint for slide in self.slides))

    @property
    def state_keys(self) -> tuple[str, ...]:
        """Arrays of a data set that make up a state of the simulation."""
        return ("qpos", "qvel", "button_states") if self.buttons else ("qpos", "qvel")

    @property
    def object_goal(self) -> dict[str, float]:
        """The fields of the observation that make OGBench's goal representation without the arm, in its order.

        With each how far from the goal the objects may be [units of the field]: as far as OGBench's own success allows.
        None for a robot that sees, as its observation has no objects.
        """
        if self.visual:
            return {}
        cubes = {f"object_{i}_position": _REACHED * _POSITION_SCALE for i in range(self.cubes)}
        buttons = {f"{name}_is_1": 0.5 for name in self.button_names}  # a state is the same, or it is not
        return {**cubes, **buttons, **{f"{slide.name}_position": _REACHED * slide.scale for slide in self.slides}}


#: By the name of the environment.
FAMILIES = {
    "cube-single": Family(cubes=1, random_actions=0.1),
    "cube-double": Family(cubes=2, stacking=(0.0, 0.25), random_actions=0.1),
    "cube-triple": Family(cubes=3, stacking=(0.05, 0.35), random_actions=0.1),
    "cube-quadruple": Family(cubes=4, stacking=(0.1, 0.5), random_actions=0.1),
    "cube-octuple": Family(cubes=8, stacking=(0.0, 0.35), random_actions=0.1),
    "scene": Family(
        cubes=1,
        buttons=2,
        slides=(Slide("drawer", "drawer_slide", 18.0), Slide("window", "window_slide", 15.0)),
        random_actions=0.1,
        reward="sparse",
        armless_goals=True,
    ),
    "puzzle-3x3": Family(buttons=9, random_actions=0.2, reward="sparse", armless_goals=True),
    "puzzle-4x4": Family(buttons=16, random_actions=0.2, reward="sparse", armless_goals=True),
    "puzzle-4x5": Family(buttons=20, random_actions=0.2, reward="sparse", armless_goals=True),
    "puzzle-4x6": Family(buttons=24, random_actions=0.2, reward="sparse", armless_goals=True),
}

#: Environments of this package whose robot is told where everything is.
ENVIRONMENTS = tuple(FAMILIES)
#: What the name of an environment begins with whose robot sees; OGBench has one of each but eight cubes.
VISUAL = "visual-"
FAMILIES |= {
    f"{VISUAL}{name}": replace(family, visual=True) for name, family in FAMILIES.items() if name != "cube-octuple"
}
VISUAL_ENVIRONMENTS = tuple(name for name, family in FAMILIES.items() if family.visual)
#: Of a robot that sees: name and topic of its camera, sides of a picture [pixels], and components of what it knows of itself.
CAMERA, CAMERA_TOPIC = "camera", "camera/image_raw"
PICTURE_SIDE = 64
ROBOT_SIZE = 19


def family_of(name: str) -> Family:
    """Return the family of an environment.

    Args:
        name: Environment, such as ``cube-single``.

    Raises:
        SimulationError: The environment is unknown; the message lists the known ones.
    """
    if name not in FAMILIES:
        raise SimulationError(f"environment {name} is unknown; the known ones are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def goal_tolerances(name: str | None) -> dict[str, float]:
    """Return what a goal of an environment holds, and how near is there; nothing where it is a whole observation.

    Args:
        name: Environment, such as ``scene``; None for data of a robot.

    Returns:
        By the name of a field of the observation: how far its values may be from the goal [units of the field].

    Raises:
        SimulationError: The environment is unknown.
    """
    family = Family() if name is None else family_of(name)
    return family.object_goal if family.armless_goals else {}


def observation_fields(
    name: str, *, goal_conditioned: bool = False, goal_fields: Sequence[str] = ()
) -> tuple[ObservationField, ...]:
    """Return the observation contract of an environment: OGBench's vector, block by block, without what is only seen.

    Args:
        name: Environment, such as ``cube-single``.
        goal_conditioned: Whether the goal follows.
        goal_fields: Names of the fields that it holds; none for a second such vector.

    Raises:
        SimulationError: The environment is unknown, or its goals are pictures.
    """
    family = family_of(name)
    if family.visual and goal_conditioned:
        raise SimulationError(f"the goals of {name} are pictures, and no policy is told one; give --tasks instead")
    blocks = [*_robot(), *(() if family.visual else _objects(family))]
    fields = tuple(ObservationField(**block) for block in blocks)
    return (*fields, field_of_goal(fields, goal_fields)) if goal_conditioned else fields


def camera_fields(name: str) -> dict[str, CameraField]:
    """Return the cameras of an environment, by name; none where it has none.

    Raises:
        SimulationError: The environment is unknown.
    """
    side = PICTURE_SIDE
    camera = CameraField(topic=CAMERA_TOPIC, width=side, height=side, size=(side, side))
    return {CAMERA: camera} if family_of(name).visual else {}


def action_fields() -> tuple[ActionField, ...]:
    """Return OGBench's five relative end-effector actions, in physical units per control step."""
    ranges = (("dx", "m", 0.05), ("dy", "m", 0.05), ("dz", "m", 0.05), ("dyaw", "rad", 0.3), ("dgripper", "1", 1.0))
    return tuple(ActionField(name=n, unit=u, scale=s, lower=-s, upper=s) for n, u, s in ranges)


_Blocks = Iterator[dict[str, Any]]

_JOINT_STATE = "sensor_msgs/msg/JointState"
_POSITION = {"extraction": "position", "size": 3, "unit": "m", "offset": _CENTRE, "scale": _POSITION_SCALE}


def _robot() -> _Blocks:
    joint_states = {"topic": "joint_states", "message_type": _JOINT_STATE}
    arm = {"joints": ARM_JOINTS, "size": 6, **joint_states}
    effector = {"topic": "effector_pose", "message_type": "geometry_msgs/msg/PoseStamped"}
    yield {"name": "joint_position", "extraction": "joint_position", "unit": "rad", **arm}
    yield {"name": "joint_velocity", "extraction": "joint_velocity", "unit": "rad/s", **arm}
    yield {"name": "effector_position", **_POSITION, **effector}
    yield {"name": "effector_yaw", "extraction": "yaw_cos_sin", "size": 2, "unit": "1", **effector}
    yield {
        "name": "gripper_opening",
        "extraction": "joint_position",
        "joints": (GRIPPER_JOINT,),
        "size": 1,
        "unit": "rad",
        "scale": _GRIPPER_SCALE / _GRIPPER_CLOSED,
        "clip": (0.0, _GRIPPER_SCALE),
        **joint_states,
    }
    yield {
        "name": "gripper_contact",
        "topic": "gripper_wrench",
        "message_type": "geometry_msgs/msg/WrenchStamped",
        "extraction": "wrench_norm",
        "size": 1,
        "unit": "N",
        "scale": 1.0 / _CONTACT_FULL,
        "clip": (0.0, 1.0),
    }


def _objects(family: Family) -> _Blocks:
    for i in range(family.cubes):
        yield from _cube(i)
    for i, state_name in enumerate(family.button_names):
        yield from _button(i, state_name)
    for slide in family.slides:
        yield from _joint(slide.name, slide.joint, slide.scale)


def _cube(i: int) -> _Blocks:
    pose = {"topic": f"object_{i}_pose", "message_type": "geometry_msgs/msg/PoseStamped"}
    yield {"name": f"object_{i}_position", **_POSITION, **pose}
    yield {"name": f"object_{i}_orientation", "extraction": "quaternion_wxyz", "size": 4, "unit": "1", **pose}
    yield {"name": f"object_{i}_yaw", "extraction": "yaw_cos_sin", "size": 2, "unit": "1", **pose}


def _button(i: int, state_name: str) -> _Blocks:
    """The state s as OGBench's pair (1 - s, s), then the joint. A JointState carries s, because it has a stamp."""
    state = {
        "topic": "button_states",
        "message_type": _JOINT_STATE,
        "extraction": "joint_position",
        "joints": (state_name,),
        "size": 1,
        "unit": "1",
    }
    yield {"name": f"{state_name}_is_0", "offset": (1.0,), "scale": -1.0, **state}
    yield {"name": f"{state_name}_is_1", **state}
    yield from _joint(state_name, _button_joint(i), _BUTTON_SCALE)


def _joint(name: str, joint: str, scale: float) -> _Blocks:
    source = {"topic": "object_joint_states", "message_type": _JOINT_STATE, "joints": (joint,), "size": 1}
    yield {"name": f"{name}_position", "extraction": "joint_position", "unit": "m", "scale": scale, **source}
    yield {"name": f"{name}_velocity", "extraction": "joint_velocity", "unit": "m/s", **source}


def _button_joint(i: int) -> str:
    return f"buttonbox_joint_{i}"
