"""Robots that are known by name: their profiles, and the contracts that these make of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField
from qgf_ros.bundle.locate import locate_bundle
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.command import Command
from qgf_ros.control.limit_overrides import manifest_with_limits
from qgf_ros.control.outputs import Output
from qgf_ros.control.profiles.profile_template import FIRST_DAY, profile_limits, profile_template
from qgf_ros.control.profiles.robot_profile import RobotProfile, read_profile
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
from qgf_ros.errors import ContractError

ROOT = Path(__file__).resolve().parents[3]
ROBOTS = sorted(path.stem for path in (ROOT / "config" / "robots").glob("*.yaml"))
BUNDLES = sorted(path.parent.name for path in (ROOT / "models").glob("*/manifest.json"))


def joint_manifest(names: list[str], measured: bool = True, **action: Any) -> Manifest:
    """A bundle that sets joints of these names to positions, and one that its robot does not tell of."""
    arm = ObservationField(
        name="arm",
        topic="some/joint_states",
        message_type="sensor_msgs/msg/JointState",
        extraction="joint_position",
        joints=tuple(names),
        size=len(names),
        unit="rad",
        max_age=0.5,
    )
    cube = ObservationField(
        name="cube", topic="cube", message_type="geometry_msgs/msg/PoseStamped", extraction="position", size=3, unit="m"
    )
    given = {"unit": "rad", "scale": 3.0, "lower": -1.0, "upper": 1.0, "hold": None, **action}
    return Manifest(
        name="reach",
        observation=(arm, cube),
        action=tuple(
            ActionField(name=name, measured=Measurement(field="arm", component=k) if measured else None, **given)
            for k, name in enumerate(names)
        ),
        horizon=4,
        execution_horizon=2,
        control_rate=20.0,
        critics={"reach": CriticCard(task="reach", discount=0.99, ensemble_size=2)},
    )


def contract_of(manifest: Manifest, profile: RobotProfile) -> tuple[RobotContract, tuple[Output, ...]]:
    contract = RobotContract.model_validate(yaml.safe_load(profile_template(manifest, profile)))
    contract.apply(manifest)
    return contract, contract.outputs(manifest)


def test_the_robots_that_were_promised_are_there() -> None:
    assert {"fr3", "so101", "ur5e"} <= set(ROBOTS)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_profile_is_read_by_name_and_says_where_it_comes_from(robot: str) -> None:
    profile = read_profile(robot)
    text = " ".join(profile.sources)
    assert "joint limits: " in text
    assert "topics, controllers" in text
    assert profile == read_profile(str(ROOT / "config" / "robots" / f"{robot}.yaml"))


def test_a_robot_that_nobody_knows_is_one_sentence_with_those_that_are_known() -> None:
    with pytest.raises(
        ContractError, match=r"^robot 'kuka' was given, but no profile has that name; .*fr3, so101, ur5e$"
    ):
        read_profile("kuka")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"joints": {"a": {"lower": 1.0, "upper": 0.0, "max_rate": 1.0}}},
            "joint a: lower 1.0 must be below upper 0.0",
        ),
        ({"wheels": 4}, "wheels: Extra inputs are not permitted"),
        (
            {"outputs": [{"takes": "joints", "controller": "c", "joints": ["b"], "send": {}}]},
            "c takes joint b, which is not among a",
        ),
        (
            {"outputs": [{"takes": "gripper", "controller": "c", "send": {}}]},
            "c: range is for what takes the gripper, and it needs one",
        ),
        (
            {"outputs": [{"takes": "joints", "controller": "c", "send": {"fields": ["a"]}}]},
            "c: fields are the bundle's",
        ),
        (
            {"topics": [{"tells": "joints", "topic": t, "rate": 50.0, "max_age": 0.1} for t in "ab"]},
            "topics tell joints, joints, expected each once",
        ),
    ],
)
def test_what_is_no_profile_is_one_sentence_with_path_and_place(changes: Any, complaint: str, tmp_path: Path) -> None:
    profile = {
        "robot": "arm",
        "driver": "none",
        "sources": ["this test"],
        "joints": {"a": {"lower": -1.0, "upper": 1.0, "max_rate": 1.0}},
        "topics": [{"tells": "joints", "topic": "/a", "rate": 50.0, "max_age": 0.1}],
        "outputs": [{"takes": "joints", "controller": "c", "send": {}}],
    }
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(profile))
    assert read_profile(str(path)).robot == "arm"
    path.write_text(yaml.safe_dump({**profile, **changes}))
    with pytest.raises(ContractError) as refused:
        read_profile(str(path))
    assert f"{path} is not a robot profile: " in str(refused.value)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_shipped_bundle_gets_a_contract_on_every_robot(robot: str, bundle: str) -> None:
    manifest = load_manifest(locate_bundle(bundle))
    _, outputs = contract_of(manifest, read_profile(robot))
    assert outputs[-1].topic == "command"
    assert len(outputs[-1].fields) == manifest.action_size


@pytest.mark.parametrize("robot", ROBOTS)
def test_joints_go_to_the_first_controller_in_its_order_whatever_the_order_and_spelling_of_the_bundle(
    robot: str,
) -> None:
    profile = read_profile(robot)
    joints = list(profile.joints)
    spelt = [name.upper().removesuffix("_JOINT") for name in reversed(joints)]
    manifest = joint_manifest(spelt)
    contract, outputs = contract_of(manifest, profile)
    assert outputs[0].topic == profile.outputs[0].send.topic
    assert outputs[0].names == tuple(joints)
    assert [field.name for field in outputs[0].fields] == spelt[::-1]
    arm, cube = contract.apply(manifest)
    assert (arm.topic, arm.joints) == (profile.topics[0].topic, tuple(reversed(joints)))
    assert arm.max_age == profile.topics[0].max_age  # the bundle took older ones
    assert cube == manifest.observation[1]


@pytest.mark.parametrize("robot", ROBOTS)
def test_each_other_controller_of_a_robot_takes_what_the_template_writes_beside_the_first(robot: str) -> None:
    profile = read_profile(robot)
    manifest = joint_manifest(list(profile.joints))
    text = profile_template(manifest, profile)
    for output in profile.outputs[1:]:
        if output.takes != "joints":
            continue
        swapped = profile.model_copy(update={"outputs": (output,)})
        (first, *_) = contract_of(manifest, swapped)[1]
        assert first.names == (output.joints or tuple(profile.joints))
        assert f"#    topic: {output.send.topic}" in text


def test_what_a_robot_does_not_tell_or_take_is_said_and_not_guessed() -> None:
    profile = read_profile("ur5e")
    names = ["shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "j6"]
    text = profile_template(joint_manifest(names), profile)
    assert text.count("NOT THIS ROBOT'S") == 2
    assert f"# Goes to no controller of the robot: {', '.join(names)}. Add an output that takes it." in text
    contract, outputs = contract_of(joint_manifest(names), profile)
    assert [output.topic for output in outputs] == ["command"]
    assert contract.apply(joint_manifest(names)) == joint_manifest(names).observation


def test_a_controller_that_takes_fewer_says_which_are_left() -> None:
    profile = read_profile("so101")
    text = profile_template(joint_manifest(list(profile.joints)), profile)
    assert "# leaves gripper to another output" in text


def test_an_absolute_arm_that_is_not_measured_gets_the_controller_that_does_not_ask_and_the_reason() -> None:
    profile = read_profile("ur5e")
    manifest = joint_manifest(list(profile.joints), measured=False)
    (forward, _) = contract_of(manifest, profile)[1]
    assert forward.topic == "/forward_position_controller/commands"
    assert "# does not fit yet: output joint_trajectory on /scaled_joint" in profile_template(manifest, profile)
    limited = manifest_with_limits(manifest, profile_limits(manifest, profile))
    (first, _) = contract_of(limited, profile)[1]
    assert first.topic == "/scaled_joint_trajectory_controller/joint_trajectory"


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_limits_of_a_robot_narrow_those_of_a_bundle_and_widen_none(robot: str) -> None:
    profile = read_profile(robot)
    wide = joint_manifest(list(profile.joints), lower=-100.0, upper=100.0)
    limited = manifest_with_limits(wide, profile_limits(wide, profile))
    for action, limits in zip(limited.action, profile.joints.values()):
        assert (action.lower, action.upper, action.max_rate) == (limits.lower, limits.upper, limits.max_rate)
        assert action.max_start_jump == 0.1
    inside = {"max_rate": 0.2, "max_start_jump": 0.05}
    action = tuple(
        field.model_copy(update={"lower": limits.lower + 0.01, "upper": limits.upper, **inside})
        for field, limits in zip(wide.action, profile.joints.values())
    )
    careful = wide.model_copy(update={"action": action})
    assert profile_limits(careful, profile) == ""
    assert "for the parameter `limits`" not in profile_template(careful, profile)


def test_a_bundle_that_moves_a_joint_where_the_robot_cannot_be_is_refused() -> None:
    profile = read_profile("so101")
    manifest = joint_manifest(["elbow_flex"], lower=2.0, upper=3.0, scale=3.0)
    with pytest.raises(ContractError, match=r"action elbow_flex moves from 2 to 3 rad, but joint elbow_flex of SO-101"):
        profile_limits(manifest, profile)


@pytest.mark.parametrize(
    ("changes", "sent", "word"),
    [
        ({"unit": "1", "lower": -1.0, "upper": 1.0, "scale": 1.0}, {-1.0: 0.0, 1.0: 0.8}, "CHECK: gripper -1 is 0 rad"),
        ({"unit": "rad", "lower": 0.0, "upper": 0.7, "scale": 0.7}, {0.0: 0.0, 0.7: 0.7}, ""),
        ({"unit": "rad", "lower": -0.1, "upper": 0.9, "scale": 0.9}, {-0.1: 0.0, 0.9: 0.8}, ""),
    ],
)
def test_a_gripper_is_stretched_over_the_robots_own_and_switches_in_its_middle(
    changes: dict[str, Any], sent: dict[float, float], word: str
) -> None:
    manifest = joint_manifest(["gripper"], measured=changes["unit"] == "rad", **changes)
    profile = read_profile("ur5e")
    assert word in profile_template(manifest, profile)
    assert ("CHECK" in profile_template(manifest, profile)) == bool(word)
    output = contract_of(manifest, profile)[1][0]
    assert (output.source.type, output.topic) == ("gripper_command", "/robotiq_gripper_controller/gripper_cmd")
    assert output.source.max_effort == 50.0
    for value, position in sent.items():
        switch = Output(output.source, manifest)
        values, nothing = np.array([value]), np.empty((0, 1))
        command = Command(values, np.zeros(1, np.float32), 0, True, True, values, nothing)
        assert switch.command(command).values[0, 0] == pytest.approx(position)


def test_a_tool_that_is_moved_goes_to_servo_in_the_frame_of_its_pose() -> None:
    manifest = load_manifest(locate_bundle("cube-single"))
    contract, (servo, _) = contract_of(manifest, read_profile("ur5e"))
    assert (servo.topic, servo.source.frame_id) == ("/servo_node/delta_twist_cmds", "base")
    assert servo.names == ("linear.x", "linear.y", "linear.z", "angular.z")
    by_name = {field.name: field.topic for field in contract.apply(manifest)}
    assert by_name["effector_position"] == by_name["effector_yaw"] == "/tcp_pose_broadcaster/pose"
    assert by_name["joint_velocity"] == "/joint_states"
    assert by_name["gripper_contact"] == "gripper_wrench"
    assert by_name["object_0_position"] == "object_0_pose"


def test_the_template_is_read_as_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    manifest = joint_manifest(list(read_profile("ur5e").joints), lower=-10.0, upper=10.0)
    path.write_text(profile_template(manifest, read_profile("ur5e")))
    assert len(read_robot_contract(path).outputs(manifest)) == 2


def test_the_template_asks_the_driver_for_its_state_and_leaves_messages_of_other_packages_as_comments() -> None:
    """Each line is one of the contract, also where it is a comment."""
    for robot, own, others in (("ur5e", 2, 2), ("fr3", 0, 1), ("so101", 0, 0)):
        profile = read_profile(robot)
        manifest = joint_manifest(list(profile.joints))
        contract, _ = contract_of(manifest, profile)
        assert len(profile.driver_state) == own + others
        assert contract.driver_state == profile.driver_state[:own]
        text = profile_template(manifest, profile)
        text = text.replace("\n#  - {", "\n  - {").replace("\n# driver_state:", "\ndriver_state:")
        whole = RobotContract.model_validate(yaml.safe_load(text))
        assert whole.driver_state == profile.driver_state


def test_the_template_names_the_limits_of_guidance_that_the_bundle_recommends_or_those_of_a_first_day() -> None:
    profile = read_profile("ur5e")
    manifest = joint_manifest(list(profile.joints))
    first = "for the first day: max_guidance_deviation 0.2, guidance_weight_slew 0.05"
    assert first in profile_template(manifest, profile)
    limits = {"max_guidance_deviation": 0.78, "guidance_weight_slew": 0.04}
    card = manifest.critics["reach"].model_copy(update={"recommended_limits": limits})
    tuned = profile_template(manifest.model_copy(update={"critics": {"reach": card}}), profile)
    assert "from `qgf tune`: max_guidance_deviation 0.78, guidance_weight_slew 0.04" in tuned
    assert first not in tuned
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    for name, value in FIRST_DAY.items():
        assert f"    {name}: {value}\n" in page
