"""The robot contract: a bundle's fields served from other topics, names and units."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.bundle.fields import ActionField, Measurement, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.command import Command
from qgf_ros.control.extraction import JointReading, VectorReading, extract
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.output_source import OutputSource
from qgf_ros.control.robot_contract import FieldSource, RobotContract, read_robot_contract, template
from qgf_ros.errors import ContractError, ObservationError

JOINTS = ObservationField(
    name="arm",
    topic="joint_states",
    message_type="sensor_msgs/msg/JointState",
    extraction="joint_position",
    joints=("j1", "j2"),
    size=2,
    unit="rad",
    offset=(0.5, -0.5),
    scale=2.0,
    clip=(-3.0, 3.0),
)
GOAL = ObservationField(
    name="goal",
    topic="goal",
    message_type="std_msgs/msg/Float64MultiArray",
    extraction="data",
    size=3,
    unit="m",
    offset=(0.1,),
    scale=10.0,
    max_age=None,
)
MANIFEST = Manifest(
    name="arm",
    observation=(JOINTS, GOAL),
    action=(ActionField(name="dx", unit="m", scale=0.05, lower=-0.05, upper=0.05),),
    horizon=1,
    execution_horizon=1,
    control_rate=20.0,
    critics={"reach": CriticCard(task="reach", discount=0.99, ensemble_size=2)},
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    return path


def test_what_is_not_said_stays_as_the_bundle_has_it(tmp_path: Path) -> None:
    assert read_robot_contract(write(tmp_path, "{}")).apply(MANIFEST) == MANIFEST.observation
    (arm, goal) = read_robot_contract(write(tmp_path, "fields: {arm: {topic: /ur5e/joint_states}}")).apply(MANIFEST)
    assert goal == GOAL
    assert arm == JOINTS.model_copy(update={"topic": "/ur5e/joint_states"})


def test_joints_and_topic_of_another_robot_give_the_same_block(tmp_path: Path) -> None:
    path = write(tmp_path, "fields: {arm: {topic: /ur/joints, joints: [elbow, wrist], max_age: 0.1}}")
    (arm, _) = read_robot_contract(path).apply(MANIFEST)
    none = np.empty(0)
    reading = JointReading(("wrist", "base", "elbow"), np.array([0.2, 9.0, 0.7]), none, none)
    ours = JointReading(("j1", "j2"), np.array([0.7, 0.2]), none, none)
    np.testing.assert_array_equal(extract(arm, reading), extract(JOINTS, ours))
    assert (arm.topic, arm.max_age) == ("/ur/joints", 0.1)


finite = st.floats(-100.0, 100.0)


@given(finite.filter(lambda f: abs(f) > 1e-3), st.tuples(finite, finite), st.tuples(finite, finite))
def test_factor_and_shift_bring_a_value_into_the_field_s_unit(
    factor: float, shift: tuple[float, float], values: tuple[float, float]
) -> None:
    contract = RobotContract.model_validate({"fields": {"arm": {"factor": factor, "shift": shift}}})
    (arm, _) = contract.apply(MANIFEST)
    none = np.empty(0)
    theirs = JointReading(JOINTS.joints, np.array(values), none, none)
    ours = JointReading(JOINTS.joints, np.array(values) * factor + np.array(shift), none, none)
    np.testing.assert_allclose(extract(arm, theirs), extract(JOINTS, ours), rtol=1e-9, atol=1e-8)


def test_factor_and_shift_go_with_a_scale_for_each_component() -> None:
    scaled = JOINTS.model_copy(update={"scale": (0.5, 4.0), "offset": (0.1, -0.2), "clip": None})
    manifest = MANIFEST.model_copy(update={"observation": (scaled, *MANIFEST.observation[1:])})
    contract = RobotContract.model_validate({"fields": {"arm": {"factor": 0.001, "shift": [1.0, 2.0]}}})
    (arm, _) = contract.apply(manifest)
    none = np.empty(0)
    theirs = JointReading(JOINTS.joints, np.array([300.0, -700.0]), none, none)
    np.testing.assert_allclose(extract(arm, theirs), [(1.3 - 0.1) * 0.5, (1.3 + 0.2) * 4.0])


def test_a_constant_takes_the_place_of_a_topic_and_is_normalised_as_a_reading_would_be() -> None:
    contract = RobotContract.model_validate({"fields": {"goal": {"constant": [0.4, 0.1, 0.2]}}})
    fields = contract.apply(MANIFEST)
    assembler = ObservationAssembler(fields, 0.05)
    assert assembler.topics == ("joint_states",)
    assembler.update("joint_states", 5, JointReading(JOINTS.joints, np.array([0.5, -0.5]), np.empty(0), np.empty(0)))
    np.testing.assert_allclose(assembler.assemble(5).vector, [0, 0, 3, 0, 1], atol=1e-6)


def test_a_topic_may_have_one_publisher_unless_the_contract_says_more_and_a_goal_any_number() -> None:
    assert RobotContract().publishers(MANIFEST) == {"joint_states": ("arm", 1)}
    fields = {"arm": {"topic": "/ur/joints", "allow_publishers": 2}, "goal": {"allow_publishers": 3}}
    contract = RobotContract.model_validate({"fields": fields})
    assert contract.publishers(MANIFEST) == {"/ur/joints": ("arm", 2), "goal": ("goal", 3)}
    fields = {"arm": {"constant": [0.0]}, "goal": {"max_age": 0.2}}
    assert RobotContract.model_validate({"fields": fields}).publishers(MANIFEST) == {"goal": ("goal", 1)}


def test_of_the_fields_of_a_topic_the_one_that_allows_most_publishers_counts() -> None:
    gripper = JOINTS.model_copy(update={"name": "gripper"})
    manifest = MANIFEST.model_copy(update={"observation": (JOINTS, gripper)})
    for name in ("arm", "gripper"):
        contract = RobotContract.model_validate({"fields": {name: {"allow_publishers": 4}}})
        assert contract.publishers(manifest) == {"joint_states": ("arm", 4)}


def test_a_field_may_come_from_another_kind_of_message(tmp_path: Path) -> None:
    text = "fields: {arm: {topic: /state, message_type: std_msgs/msg/Float32MultiArray, extraction: data, components: [4, 0]}}"
    (arm, _) = read_robot_contract(write(tmp_path, text)).apply(MANIFEST)
    assert extract(arm, VectorReading(np.array([0.0, 9, 9, 9, 1.5]))).tolist() == [2.0, 1.0]
    with pytest.raises(
        ObservationError, match=r"field arm: topic /state gave shape \(4,\), expected at least 5 values"
    ):
        extract(arm, VectorReading(np.zeros(4)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fields: {leg: {topic: a}}", "field leg is in the contract, but bundle arm has arm, goal"),
        ("fields: {arm: {joints: [a]}}", "field arm of the contract does not fit the bundle: .*size 2 was given"),
        ("fields: {arm: {extraction: yaw}}", "arm of the contract .*extraction yaw does not fit"),
        ("fields: {arm: {factor: 0}}", "field arm: factor 0 was given"),
        ("fields: {arm: {factor: .inf}}", "fields.arm.factor: Input should be a finite number"),
        ("fields: {arm: {shift: [1, 2, 3]}}", "field arm: shift has 3 values, expected 1 or 2"),
        ("fields: {arm: {topc: a}}", "fields.arm.topc: Extra inputs are not permitted"),
        (
            "fields: {arm: {allow_publishers: 0}}",
            "fields.arm.allow_publishers: Input should be greater than or equal to 1",
        ),
        (
            "fields: {arm: {allow_publishers: 17}}",
            "fields.arm.allow_publishers: Input should be less than or equal to 16",
        ),
        ("command: [{controller: 'a b'}]", "command.0.controller: String should match"),
        ("fields: {arm: {max_age: -1}}", "fields.arm.max_age: Input should be greater than"),
        ("fields: {goal: {constant: [1, 2]}}", "constant has 2 values, expected 1 or 3"),
        ("fields: {goal: {constant: [1], factor: 2}}", "field goal: constant is in the bundle's own unit"),
        ("fields: {arm: {quality: {reliability: maybe}}}", "fields.arm.quality.reliability: Input should be"),
        ("alignment: newest", "alignment: Input should be 'latest' or 'nearest'"),
        ("- arm", "is not a contract: Input should be a valid dictionary"),
        ("fields: {arm: {topic: a}, arm: {topic: b}}", "is not YAML .arm stands twice in one mapping, line 1"),
        ("fields: [", "is not YAML"),
        ("!!python/object/apply:os.system [exit]", "is not YAML .*could not determine a constructor"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_robot_contract(write(tmp_path, text)).apply(MANIFEST)


def test_a_missing_or_enormous_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="none.yaml cannot be read .No such file"):
        read_robot_contract(tmp_path / "none.yaml")
    with pytest.raises(ContractError, match="larger than 1000000 bytes"):
        read_robot_contract(write(tmp_path, "#" * 1_000_001))


@examples(50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(list(FieldSource.model_fields)), x),
        max_leaves=8,
    )
)
def test_whatever_a_contract_holds_it_is_applied_or_refused(values: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            fields = read_robot_contract(write(Path(folder), yaml.safe_dump({"fields": {"arm": values}}))).apply(
                MANIFEST
            )
        except ContractError:
            return
    assert sum(field.size for field in fields) == MANIFEST.observation_size


@examples(50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.sampled_from(["dx", "measured", "joint_trajectory", "~"]),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from([*OutputSource.model_fields, "dx"]), x),
        max_leaves=8,
    )
)
def test_whatever_an_output_holds_it_is_made_or_refused(values: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            contract = read_robot_contract(write(Path(folder), yaml.safe_dump({"command": [values]})))
            (output,) = contract.outputs(MANIFEST)
        except ContractError:
            return
    assert [field.name for field in output.fields] == ["dx"]


def test_the_template_says_what_the_bundle_says(tmp_path: Path) -> None:
    assert read_robot_contract(write(tmp_path, template(MANIFEST))).apply(MANIFEST) == MANIFEST.observation


@pytest.mark.parametrize("change", [{"constant": [0.0, 0.0]}, {"max_age": None}, {"components": [1, 0]}])
def test_what_guards_the_robot_cannot_be_made_up(change: dict[str, Any]) -> None:
    guarded = ActionField(
        name="j1",
        unit="rad",
        scale=1.0,
        lower=-1.0,
        upper=1.0,
        hold=None,
        measured=Measurement(field="arm"),
        max_start_jump=0.1,
    )
    arm = JOINTS.model_copy(update={"clip": None})
    manifest = MANIFEST.model_copy(update={"observation": (arm, GOAL), "action": (guarded,)})
    RobotContract.model_validate({"fields": {"arm": {"topic": "a", "max_age": 0.1}}}).apply(manifest)
    with pytest.raises(ContractError, match="field arm measures where the robot is"):
        RobotContract.model_validate({"fields": {"arm": change}}).apply(manifest)


def test_fields_that_share_a_topic_must_agree_on_it() -> None:
    fields = {"arm": {"topic": "state"}, "goal": {"topic": "state"}}
    with pytest.raises(ContractError, match="fields arm and goal share topic state, so message_type and quality must"):
        RobotContract.model_validate({"fields": fields}).apply(MANIFEST)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "contracts.md"
EXAMPLES = [
    values
    for values in map(yaml.safe_load, re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    if "command" in values
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["command"][1]["type"])
def test_the_outputs_of_the_documentation_fit_a_bundle_with_their_fields(example: dict[str, Any]) -> None:
    contract = RobotContract.model_validate(example)
    names = list(dict.fromkeys(name for source in contract.command for name in source.fields or ()))
    relative = any(source.type == "twist_stamped" or source.integrate != "none" for source in contract.command)
    action = tuple(
        ActionField(
            name=name,
            unit="rad",
            scale=0.1,
            lower=-1.0,
            upper=1.0,
            hold=0.0 if relative else None,
            measured=Measurement(field="arm"),
        )
        for name in names
    )
    outputs = contract.outputs(MANIFEST.model_copy(update={"action": action}))
    assert outputs[0].names == tuple(names)
    assert {name for output in outputs[1:] for name in (field.name for field in output.fields)} == set(names)


def test_the_documentation_has_an_example_for_every_kind_of_controller() -> None:
    kinds = {source["type"] for example in EXAMPLES for source in example["command"]}
    assert kinds == set(get_args(OutputSource.model_fields["type"].annotation))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command: 3", "command: Input should be a valid tuple"),
        ("command: [{type: pose}]", "command.0.type: Input should be 'joint_state', 'float64_multi_array'"),
        ("command: [{fields: [dx, dx]}]", "command.0.fields: \\['dx', 'dx'\\] names a field twice"),
        ("command: [{topic: 'a b'}]", "command.0.topic: String should match pattern"),
        ("command: [{scale: .inf}]", "command.0.scale.0: Input should be less than or equal to 1000000000"),
    ],
)
def test_outputs_that_cannot_be_read_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_robot_contract(write(tmp_path, text))


def test_an_output_where_the_robot_is_read_from_is_refused_unless_nothing_is_read_there() -> None:
    contract = RobotContract(command=(OutputSource(topic="/joint_states"),))
    with pytest.raises(ContractError, match="on /joint_states is sent where field arm is read from; give the output"):
        contract.outputs(MANIFEST)
    contract.model_copy(update={"fields": {"arm": FieldSource(constant=(0.0, 0.0))}}).outputs(MANIFEST)


def test_two_arms_with_a_gripper_each_are_fields_and_outputs_of_their_own() -> None:
    """One message for both arms in, by joint name; one controller for each arm and each gripper out."""
    sides = ("left", "right")
    arms = [JOINTS.model_copy(update={"name": f"{side}_arm", "joints": (f"{side}_j1", f"{side}_j2")}) for side in sides]
    grippers = [
        ObservationField(
            name=f"{side}_opening",
            topic="joint_states",
            message_type="sensor_msgs/msg/JointState",
            extraction="joint_position",
            joints=(f"{side}_finger",),
            size=1,
            unit="m",
        )
        for side in sides
    ]
    moves = [
        ActionField(
            name=f"{side}_j{i + 1}",
            unit="rad",
            scale=1.0,
            lower=-3.0,
            upper=3.0,
            hold=None,
            measured=Measurement(field=f"{side}_arm", component=i),
        )
        for side in sides
        for i in range(2)
    ]
    grips = [ActionField(name=f"{side}_grip", unit="m", scale=0.08, lower=0.0, upper=0.08, hold=None) for side in sides]
    robot = MANIFEST.model_copy(update={"observation": (*arms, *grippers), "action": (*moves, *grips)})
    contract = RobotContract.model_validate(
        yaml.safe_load("""
            fields:
              right_arm: {joints: [r_elbow, r_shoulder]}
              right_opening: {topic: /right/gripper, joints: [finger], factor: 0.001}
            command:
              - {type: joint_trajectory, topic: /left/trajectory, fields: [left_j1, left_j2]}
              - {type: joint_trajectory, topic: /right/trajectory, fields: {right_j1: r_elbow, right_j2: r_shoulder}}
              - {type: float64_multi_array, topic: /left/gripper, fields: [left_grip]}
              - {type: float64_multi_array, topic: /right/gripper_command, fields: [right_grip], scale: 1000}
            """)
    )
    fields = {field.name: field for field in contract.apply(robot)}
    none = np.empty(0)
    body = JointReading(("r_shoulder", "left_j2", "left_j1", "r_elbow"), np.array([1.0, 2.0, 3.0, 4.0]), none, none)
    assert extract(fields["left_arm"], body).tolist() == extract(JOINTS, arm_reading(3.0, 2.0)).tolist()
    assert extract(fields["right_arm"], body).tolist() == extract(JOINTS, arm_reading(4.0, 1.0)).tolist()
    finger = JointReading(("finger",), np.array([40.0]), none, none)
    assert extract(fields["right_opening"], finger) == pytest.approx([0.04])
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.05, 0.06])
    command = Command(values, np.zeros(6, np.float32), 0, True, True, np.zeros(6), np.empty((0, 6)))
    sent = {output.topic: (output.names, output.command(command).values.tolist()) for output in contract.outputs(robot)}
    assert sent == {
        "/left/trajectory": (("left_j1", "left_j2"), [[0.1, 0.2]]),
        "/right/trajectory": (("r_elbow", "r_shoulder"), [[0.3, 0.4]]),
        "/left/gripper": (("left_grip",), [[0.05]]),
        "/right/gripper_command": (("right_grip",), [[60.0]]),
    }


def arm_reading(*angles: float) -> JointReading:
    return JointReading(JOINTS.joints, np.array(angles), np.empty(0), np.empty(0))


def test_a_driver_state_is_a_boolean_that_is_told_when_it_changes_unless_it_says_otherwise(tmp_path: Path) -> None:
    text = "driver_state: [{topic: /running, ready: [true]}, {topic: /speed, message_type: std_msgs/msg/Float64, at_least: 10}]"
    running, speed = read_robot_contract(write(tmp_path, text)).driver_state
    assert (running.message_type, running.field, running.max_age) == ("std_msgs/msg/Bool", "data", None)
    assert (running.accepts(True), running.accepts(False)) == (True, False)
    assert [speed.accepts(value) for value in (9.99, 10.0, 10, np.nan, "10")] == [False, True, True, False, False]
    assert (running.expected, speed.expected) == ("True", "at least 10")


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ("{topic: /running}", "/running: give either ready, the values at which the robot is, or at_least"),
        ("{topic: /running, ready: [true], at_least: 1}", "/running: give either ready"),
        ("{topic: /running, ready: [true], max_age: 0}", "greater than or equal to"),
        ("{topic: /running, ready: [true], message_type: Bool}", "message_type"),
        ("{topic: /running, ready: [true], field: __class__}", "field"),
        ("{topic: /running, ready: [[1]]}", "ready"),
        ("{topic: '', ready: [1]}", "topic"),
        ("{topic: /speed, at_least: .nan}", "at_least"),
    ],
)
def test_a_driver_state_that_says_no_condition_is_one_sentence(state: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"robot\.yaml is not a contract: driver_state") as caught:
        read_robot_contract(write(tmp_path, f"driver_state: [{state}]"))
    assert complaint in str(caught.value)
