"""The robot of a compiled MuJoCo model as URDF, and where its links are.

Links are MuJoCo's bodies under names of their own, and joints have the names of the joint states. A link's frame lies in
the anchor of its joint, where URDF wants it. Shapes are simple (cylinders, spheres, boxes), the same as MuJoCo collides
with, so that a viewer needs no mesh files.

The fingers of the gripper are a closed linkage, which URDF cannot say: its joints mimic the one that is measured.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from qgf_sim.worlds.families import GRIPPER_JOINT

Array = NDArray[np.float64]

#: The frame that everything stands in: z up, x from the robot to its objects (REP 103).
WORLD = "world"
#: Body that the robot begins with, site between its finger tips, and what prefixes the names of its parts.
_ROOT, _EFFECTOR, _PREFIX = "ur5e/", "ur5e/robotiq/pinch", "ur5e/"
_NAMES = {_ROOT: "base_mount", "ur5e/base": "base_link", "ur5e/robotiq/": "tool0", _EFFECTOR: "effector"}
#: How far each joint of the linkage, nearly a parallelogram, turns for one radian of the measured joint.
_MIMIC = {
    "left_driver_joint": 1.0,
    "right_spring_link_joint": 1.0,
    "left_spring_link_joint": 1.0,
    "right_follower_joint": -1.0,
    "left_follower_joint": -1.0,
    "right_coupler_joint": 0.0,
    "left_coupler_joint": 0.0,
}
#: Greatest speed of the UR5e's joints [rad/s], from its data sheet; MuJoCo's model has none, and URDF must.
_SPEED = np.pi
_COLLISION_GROUP = 3


@dataclass(frozen=True)
class Link:
    """A link of the robot.

    Attributes:
        name: Its frame.
        parent: The frame it hangs on.
        body: MuJoCo's body, that of the site for the effector.
        joint: MuJoCo's joint to the parent, None where it is fixed.
        site: MuJoCo's site, None where the link is a body.
        anchor: Origin of the link's frame in the frame of the body [m], float64 [3].
    """

    name: str
    parent: str
    body: int
    joint: int | None
    site: int | None
    anchor: Array


def frame_name(name: str) -> str:
    """Return the frame of a body, site or joint of MuJoCo's: a plain name, as in the joint states."""
    return _NAMES.get(name, name.removeprefix(_PREFIX).replace("robotiq/", "gripper_"))


def joint_name(name: str) -> str:
    """Return the name of a joint in the joint states."""
    return name.rpartition("/")[2]


def robot_links(model: Any) -> tuple[Link, ...]:
    """Return the links of the robot, parents first."""
    root = model.body(_ROOT).id
    links = []
    for body in range(model.nbody):
        if model.body_rootid[body] != root:
            continue
        joint = int(model.body_jntadr[body]) if model.body_jntnum[body] else None
        anchor = np.zeros(3) if joint is None else model.jnt_pos[joint].copy()
        parent = WORLD if body == root else frame_name(model.body(model.body_parentid[body]).name)
        links.append(Link(frame_name(model.body(body).name), parent, body, joint, None, anchor))
    site = model.site(_EFFECTOR)
    body = int(site.bodyid[0])
    links.append(Link(frame_name(site.name), frame_name(model.body(body).name), body, None, site.id, site.pos.copy()))
    return tuple(links)


def link_poses(data: Any, links: tuple[Link, ...]) -> tuple[Array, Array]:
    """Return where links are in the world: positions [m], float64 [L, 3], and rotation matrices, float64 [L, 3, 3]."""
    bodies = [link.body for link in links]
    rotations = data.xmat[bodies].reshape(-1, 3, 3).copy()
    anchors = np.array([link.anchor for link in links])
    positions = data.xpos[bodies] + np.einsum("lij,lj->li", rotations, anchors)
    for i, link in enumerate(links):
        if link.site is not None:
            rotations[i] = data.site_xmat[link.site].reshape(3, 3)
    return positions, rotations


def robot_urdf(model: Any, name: str = "ur5e_2f85") -> str:
    """Return the robot of a compiled model as URDF.

    Args:
        model: MuJoCo's model of an OGBench manipulation environment.
        name: What the robot is called.
    """
    robot = ET.Element("robot", name=name)
    for part, colour in (("arm", "0.7 0.7 0.75 1"), ("gripper", "0.2 0.2 0.2 1")):
        ET.SubElement(ET.SubElement(robot, "material", name=part), "color", rgba=colour)
    ET.SubElement(robot, "link", name=WORLD)
    links = robot_links(model)
    anchors = {WORLD: np.zeros(3), **{link.name: link.anchor for link in links}}
    for link in links:
        element = ET.SubElement(robot, "link", name=link.name)
        if link.site is None:
            _add_inertia(element, model, link)
            _add_shapes(element, model, link)
        _add_joint(robot, model, link, anchors[link.parent])
    ET.indent(robot)
    return '<?xml version="1.0"?>\n' + ET.tostring(robot, encoding="unicode") + "\n"


def _add_joint(robot: ET.Element, model: Any, link: Link, parent_anchor: Array) -> None:
    joint = None if link.joint is None else model.joint(link.joint)
    name = f"{link.name}_fixed" if joint is None else joint_name(joint.name)
    element = ET.SubElement(robot, "joint", name=name, type="fixed" if joint is None else "revolute")
    if link.site is None:
        quaternion = model.body_quat[link.body]
        position = model.body_pos[link.body] + _rotation(quaternion) @ link.anchor
    else:
        position, quaternion = link.anchor, model.site_quat[link.site]
    _add_origin(element, position - parent_anchor, _rotation(quaternion))
    ET.SubElement(element, "parent", link=link.parent)
    ET.SubElement(element, "child", link=link.name)
    if joint is None:
        return
    ET.SubElement(element, "axis", xyz=_text(joint.axis))
    low, high = joint.range if model.jnt_limited[joint.id] else (-2 * np.pi, 2 * np.pi)
    driven = (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT) & (model.actuator_trnid[:, 0] == joint.id)
    effort = float(model.actuator_forcerange[driven, 1].sum())
    ET.SubElement(
        element, "limit", lower=f"{low:.9g}", upper=f"{high:.9g}", effort=f"{effort:g}", velocity=f"{_SPEED:.9g}"
    )
    if name in _MIMIC:
        ET.SubElement(element, "mimic", joint=GRIPPER_JOINT, multiplier=f"{_MIMIC[name]:g}")


def _add_inertia(element: ET.Element, model: Any, link: Link) -> None:
    mass = float(model.body_mass[link.body])
    if not mass:
        return
    inertial = ET.SubElement(element, "inertial")
    _add_origin(inertial, model.body_ipos[link.body] - link.anchor, _rotation(model.body_iquat[link.body]))
    ET.SubElement(inertial, "mass", value=f"{mass:.9g}")
    xx, yy, zz = (f"{value:.9g}" for value in model.body_inertia[link.body])
    ET.SubElement(inertial, "inertia", ixx=xx, iyy=yy, izz=zz, ixy="0", ixz="0", iyz="0")


def _add_shapes(element: ET.Element, model: Any, link: Link) -> None:
    first = model.body_geomadr[link.body]
    geoms = range(first, first + model.body_geomnum[link.body])
    solid = [geom for geom in geoms if model.geom_group[geom] == _COLLISION_GROUP]
    material = "gripper" if link.name.startswith("gripper_") else "arm"
    for geom in solid or geoms:  # the base has none to collide with
        rotation = _rotation(model.geom_quat[geom])
        for offset, shape in _primitives(model, geom):
            for kind in ("visual", "collision"):
                part = ET.SubElement(element, kind)
                _add_origin(part, model.geom_pos[geom] - link.anchor + rotation @ offset, rotation)
                ET.SubElement(part, "geometry").append(shape)
                if kind == "visual":
                    ET.SubElement(part, "material", name=material)


def _primitives(model: Any, geom: int) -> Iterator[tuple[Array, ET.Element]]:
    """Yield the shapes of a geom, each with where it lies in the geom's frame; a mesh is its bounding box."""
    kind, (radius, half, _) = model.geom_type[geom], model.geom_size[geom]
    if kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
        yield np.zeros(3), ET.Element("cylinder", radius=f"{radius:.9g}", length=f"{2 * half:.9g}")
        if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            for end in (-half, half):
                yield np.array([0.0, 0.0, end]), ET.Element("sphere", radius=f"{radius:.9g}")
    else:
        centre, extent = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
        yield centre, ET.Element("box", size=_text(2 * extent))


def _add_origin(element: ET.Element, position: Array, rotation: Array) -> None:
    ET.SubElement(element, "origin", xyz=_text(position), rpy=_text(_roll_pitch_yaw(rotation)))


def _roll_pitch_yaw(rotation: Array) -> Array:
    """Return the angles [rad] of R = Rz(yaw) Ry(pitch) Rx(roll), float64 [3]; at a pitch of 90 degrees yaw is 0."""
    level = np.hypot(rotation[0, 0], rotation[1, 0])
    pitch = np.arctan2(-rotation[2, 0], level)
    if level < 1e-9:
        return np.array([np.arctan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0])
    return np.array([np.arctan2(rotation[2, 1], rotation[2, 2]), pitch, np.arctan2(rotation[1, 0], rotation[0, 0])])


def _rotation(quaternion: Array) -> Array:
    """Return the matrix, float64 [3, 3], of a quaternion wxyz."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.ascontiguousarray(quaternion))
    return matrix.reshape(3, 3)


def _text(values: Array) -> str:
    return " ".join(f"{value + 0.0:.9g}" for value in np.where(np.abs(values) < 1e-12, 0.0, values))


def main() -> None:
    """Print the URDF; the robot is the same in every environment."""
    from qgf_sim.worlds.environment import TaskEnvironment

    env = TaskEnvironment("cube-single", 1)
    env.reset(0)
    print(robot_urdf(env.unwrapped.model), end="")
    env.close()


if __name__ == "__main__":
    main()
