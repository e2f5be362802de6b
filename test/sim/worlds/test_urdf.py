"""The URDF is the robot of the simulation: read back by another program, its links are where MuJoCo's are."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="the robot's model needs the sim extra")

import mujoco

from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import ARM_JOINTS, GRIPPER_JOINT
from qgf_sim.worlds.urdf import joint_name, link_poses, main, robot_links, robot_urdf


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnvironment]:
    env = TaskEnvironment("cube-single", 1)
    env.reset(0)
    yield env
    env.close()


def vector(element: Any, name: str, default: str = "0 0 0") -> np.ndarray:
    return np.array([float(word) for word in element.get(name, default).split()])


def turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pose(origin: Any) -> np.ndarray:
    """The 4 x 4 transform of a URDF origin: fixed axes, roll first."""
    roll, pitch, yaw = vector(origin, "rpy")
    x, y, z = np.eye(3)
    transform = np.eye(4)
    transform[:3, :3] = turn(z, yaw) @ turn(y, pitch) @ turn(x, roll)
    transform[:3, 3] = vector(origin, "xyz")
    return transform


def forward_kinematics(urdf: str, positions: dict[str, float]) -> dict[str, np.ndarray]:
    """Transform of every link, as the URDF specification says, without this package."""
    robot = ET.fromstring(urdf)
    links = {"world": np.eye(4)}
    for joint in robot.iter("joint"):
        moved = np.eye(4)
        if joint.get("type") == "revolute":
            moved[:3, :3] = turn(vector(joint.find("axis"), "xyz"), positions[joint.get("name", "")])
        transform = links[joint.find("parent").get("link")] @ pose(joint.find("origin")) @ moved
        links[joint.find("child").get("link")] = transform
    assert set(links) == {link.get("name") for link in robot.findall("link")}
    return links


def joint_positions(model: Any, data: Any) -> dict[str, float]:
    names = {j: joint_name(model.joint(j).name) for j in range(model.njnt) if model.joint(j).name.startswith("ur5e/")}
    return {name: float(data.qpos[model.jnt_qposadr[j]]) for j, name in names.items()}


def test_forward_kinematics_of_the_urdf_are_those_of_mujoco(env: TaskEnvironment) -> None:
    model, data = env.unwrapped.model, env.unwrapped.data
    urdf, links = robot_urdf(model), robot_links(model)
    random = np.random.default_rng(0)
    for _ in range(20):
        data.qpos[:14] = random.uniform(-0.8, 0.8, 14)
        mujoco.mj_forward(model, data)
        expected = forward_kinematics(urdf, joint_positions(model, data))
        positions, rotations = link_poses(data, links)
        for link, position, rotation in zip(links, positions, rotations):
            np.testing.assert_allclose(expected[link.name][:3, 3], position, atol=1e-7)
            np.testing.assert_allclose(expected[link.name][:3, :3], rotation, atol=1e-7)
            if link.joint is not None:
                np.testing.assert_allclose(position, data.xanchor[link.joint], atol=1e-9)
    effector = expected["effector"]
    np.testing.assert_allclose(effector[:3, 3], env.readings()["effector_pose"].position, atol=1e-7)


def test_mujoco_reads_the_urdf_back_as_the_same_robot(env: TaskEnvironment) -> None:
    model, data = env.unwrapped.model, env.unwrapped.data
    read = mujoco.MjModel.from_xml_string(robot_urdf(model))
    state = mujoco.MjData(read)
    env.reset(3)
    for name, position in joint_positions(model, data).items():
        state.qpos[read.joint(name).qposadr[0]] = position
    mujoco.mj_forward(read, state)
    for body in ("shoulder_link", "upper_arm_link", "forearm_link", "wrist_1_link", "wrist_2_link", "wrist_3_link"):
        ours, theirs = state.body(body), data.body(f"ur5e/{body}")
        np.testing.assert_allclose(ours.xpos, theirs.xpos, atol=1e-7)
        np.testing.assert_allclose(ours.xmat, theirs.xmat, atol=1e-7)
        # Of the whole branch, because a fixed load, such as the gripper's base, is read as part of what carries it.
        np.testing.assert_allclose(state.subtree_com[ours.id], data.subtree_com[theirs.id], atol=1e-6)
        assert read.body(body).subtreemass == pytest.approx(model.body(f"ur5e/{body}").subtreemass, rel=1e-6)


def test_joints_have_the_names_of_the_joint_states_and_the_others_mimic(env: TaskEnvironment) -> None:
    robot = ET.fromstring(robot_urdf(env.unwrapped.model))
    moving = {joint.get("name"): joint for joint in robot.iter("joint") if joint.get("type") != "fixed"}
    measured = {name for name, joint in moving.items() if joint.find("mimic") is None}
    assert measured == {*ARM_JOINTS, GRIPPER_JOINT} == set(env.readings()["joint_states"].names)
    for name, joint in moving.items():
        low, high = (float(joint.find("limit").get(key)) for key in ("lower", "upper"))
        assert low < high, name
        if name not in measured:
            assert joint.find("mimic").get("joint") == GRIPPER_JOINT


def test_the_fingers_are_where_their_mimicked_joints_put_them(env: TaskEnvironment) -> None:
    """The linkage is not quite a parallelogram; at rest its pads are within 2 mm of what a viewer shows."""
    model, data = env.unwrapped.model, env.unwrapped.data
    urdf = robot_urdf(model)
    mimics = {
        joint.get("name"): float(joint.find("mimic").get("multiplier"))
        for joint in ET.fromstring(urdf).iter("joint")
        if joint.find("mimic") is not None
    }
    env.reset(0)
    for command in (1.0, -1.0):
        for _ in range(20):
            env.step(np.array([0.0, 0.0, 0.0, 0.0, command]))
        positions = joint_positions(model, data)
        shown = {
            name: mimics.get(name, 1.0) * positions[GRIPPER_JOINT] if name in mimics else p
            for name, p in positions.items()
        }
        links = forward_kinematics(urdf, shown)
        for side in ("left", "right"):
            pad = data.body(f"ur5e/robotiq/{side}_pad").xpos
            np.testing.assert_allclose(links[f"gripper_{side}_pad"][:3, 3], pad, atol=0.002)


def test_every_link_with_a_body_has_a_shape(env: TaskEnvironment) -> None:
    robot = ET.fromstring(robot_urdf(env.unwrapped.model))
    bare = {link.get("name") for link in robot.findall("link") if link.find("visual") is None}
    assert bare == {"world", "base_mount", "tool0", "effector"}
    assert not list(robot.iter("mesh"))


def test_the_module_prints_the_robot_of_every_environment(
    env: TaskEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    main()
    assert capsys.readouterr().out == robot_urdf(env.unwrapped.model)
