"""Recordings as training data: the rows a policy would have been trained on, and the honest end of each trajectory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from geometry_msgs.msg import PoseStamped, WrenchStamped
from hypothesis import given
from hypothesis import strategies as st
from lifecycle_msgs.msg import TransitionEvent
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray, String

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.cli import main
from qgf_ros.control.command import Command
from qgf_ros.control.robot_contract import RobotContract
from qgf_ros.errors import DatasetError, RecordingError
from qgf_ros.learning.data.contract import plain_contract, read_contract
from qgf_ros.learning.data.dataset import chunk_returns, load_dataset
from qgf_ros.nodes.messages import command_message
from qgf_ros.recording.rows.outcomes import Reward
from qgf_ros.recording.rows.source import Source
from qgf_ros.recording.rows.stamps import control_ticks
from qgf_ros.recording.rows.to_dataset import convert

Make = Callable[..., Any]


def source_of(manifest: Any, **changes: Any) -> Source:
    return Source(manifest.observation, manifest.action, manifest.control_rate, **changes)


def test_rows_are_what_the_node_saw_and_sent(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(7)
    run.finish_episode(success=True)
    run.ticks(5)
    run.finish_episode(success=False)
    arrays = convert([record(run)], source_of(run.manifest)).arrays()
    # Nothing was measured after the last command of an episode. Solved, its last row is repeated as a successor that
    # a mask of 0 hides; unsolved, the last command has no successor.
    rows = [*range(7), 6, *range(7, 12)]
    commands = np.array([values for _, values in run.commands])
    assert np.array_equal(arrays["observations"], np.array(run.vectors)[rows])
    assert np.array_equal(arrays["actions"], (commands[rows] / 0.1).astype(np.float32))
    assert np.flatnonzero(arrays["terminals"]).tolist() == [7, 12]
    assert arrays["rewards"].tolist() == [-1.0] * 6 + [0.0, 0.0] + [-1.0] * 5
    assert arrays["masks"].tolist() == [1.0] * 6 + [0.0, 0.0] + [1.0] * 5


def test_what_else_was_recorded_changes_nothing(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(5)
    run.finish_episode(success=True)
    plain = convert([record(run)], source_of(run.manifest)).arrays()
    beside = [
        ("/clock", Clock()),
        ("/robot_description", String(data="<robot/>")),
        ("/policy_node/transition_event", TransitionEvent()),
    ]
    for topic, message in beside:
        run.hear(topic, message)
    assert convert([record(run)], source_of(run.manifest)).arrays()["rewards"].tolist() == plain["rewards"].tolist()


def test_an_offset_is_taken_off_again_before_the_scale(run_of: Make, record: Make) -> None:
    action = tuple(
        ActionField(name=name, unit="rad", scale=0.5, offset=1.2, lower=0.7, upper=1.7, hold=None)
        for name in ("a", "b")
    )
    run = run_of({"action": action})
    run.ticks(5)
    run.finish_episode(success=True)
    actions = convert([record(run)], source_of(run.manifest)).arrays()["actions"]
    commands = np.array([values for _, values in run.commands])
    assert (commands > 1.2).any() and (commands < 1.2).any()
    assert actions[:5] * 0.5 + 1.2 == pytest.approx(commands, abs=1e-6)


@pytest.mark.parametrize(("scale", "cut"), [(0.1, 0), (1e-3, 5)])
def test_commands_that_scale_and_offset_do_not_cover_are_cut_and_counted(
    run_of: Make, record: Make, scale: float, cut: int
) -> None:
    run = run_of()
    run.ticks(5)
    run.finish_episode(success=True)
    action = [field.model_copy(update={"scale": scale}) for field in run.manifest.action]
    conversion = convert([record(run)], source_of(run.manifest.model_copy(update={"action": action})))
    assert conversion.clipped == cut
    assert np.abs(conversion.arrays()["actions"]).max() <= 1.0


def test_the_command_that_solves_the_task_is_trained_on_and_ends_the_return(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(4)
    run.finish_episode(success=True)
    arrays = convert([record(run)], source_of(run.manifest)).arrays()
    starts = np.arange(4)
    returns, bootstraps = chunk_returns(starts, arrays["rewards"], arrays["masks"], 1, 0.9)
    assert returns.tolist() == [-1.0, -1.0, -1.0, 0.0]
    assert bootstraps[:3] == pytest.approx(0.9)
    assert bootstraps[3] == 0.0


def test_an_observation_after_the_last_command_closes_the_trajectory(
    run_of: Make, record: Make, joint_message: Make
) -> None:
    run = run_of()
    run.ticks(3)
    run.hear("/joint_states", joint_message(run.stamp, 7.0, 8.0))
    arrays = convert([record(run)], source_of(run.manifest, reward=Reward("/joint_states", ("position", "0")))).arrays()
    assert arrays["observations"][-1].tolist() == [7.0, 8.0]
    assert arrays["terminals"].tolist() == [False, False, False, True]


def test_a_gap_ends_a_trajectory_and_a_lonely_command_is_left_out(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(4)
    run.stamp += 3 * run.PERIOD
    run.ticks(1)
    run.stamp += 3 * run.PERIOD
    run.ticks(3)
    run.finish_episode(success=True)
    conversion = convert([record(run)], source_of(run.manifest))
    assert [len(trajectory.actions) for trajectory in conversion.trajectories] == [4, 4]
    assert [trajectory.solved for trajectory in conversion.trajectories] == [False, True]
    assert sum(count for reason, count in conversion.left_out.items() if "alone" in reason) == 1


def test_holds_and_repeated_answers_are_no_rows(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(3)
    run.loop.gate.hold("a test")
    run.ticks(3)
    run.finish_episode(success=True)
    assert len(run.commands) == 7
    arrays = convert([record(run)], source_of(run.manifest)).arrays()
    answers = np.array([values for i, (_, values) in enumerate(run.commands) if i != 3])
    assert np.array_equal(arrays["actions"][:-1], (answers / 0.1).astype(np.float32))


def test_an_observation_that_cannot_be_made_is_a_gap_and_is_counted(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(3)
    run.tick(float("nan"), 0.0)
    run.ticks(3)
    run.finish_episode(success=False)
    conversion = convert([record(run)], source_of(run.manifest))
    assert [len(trajectory.actions) for trajectory in conversion.trajectories] == [3, 3]
    assert any("not finite" in reason for reason, count in conversion.left_out.items() if count == 1)


def test_rewards_come_from_a_topic_with_or_without_a_header(run_of: Make, record: Make) -> None:
    run = run_of()
    for i in range(4):
        stamped = WrenchStamped()
        stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(run.stamp, 10**9)
        stamped.wrench.force.z = 10.0 + i
        run.hear("/contact", stamped)
        run.hear("/reward", Float64MultiArray(data=[0.0, float(i)]))
        run.tick(0.1 * i, 0.0)
    recording = record(run)
    for text, expected in (("/contact:wrench.force.z", [10, 11, 12, 13]), ("/reward:data.1", [0, 1, 2, 3])):
        arrays = convert([recording], source_of(run.manifest, reward=Reward.parse(text))).arrays()
        assert arrays["rewards"].tolist() == expected
        assert arrays["masks"].tolist() == [1.0] * 4


def test_sessions_that_repeat_each_others_stamps_are_not_mixed(run_of: Make, record: Make) -> None:
    run = run_of()
    for offset, outcome in ((0.0, False), (5.0, True)):
        for i in range(5):
            stamped = WrenchStamped()
            stamped.header.stamp.sec, stamped.header.stamp.nanosec = divmod(run.stamp, 10**9)
            stamped.wrench.force.z = offset + i
            run.hear("/contact", stamped)
            run.tick(offset + 0.1 * i, offset)
        run.finish_episode(success=outcome)
        run.stamp = run.START
        run.loop.gate.restart()
    source = source_of(run.manifest, reward=Reward.parse("/contact:wrench.force.z"))
    arrays = convert([record(run)], source).arrays()
    # The last row of an unsolved trajectory is only a successor; that of a solved one is repeated.
    rows = [*range(5), *range(5, 10), 9]
    assert np.array_equal(arrays["observations"], np.array(run.vectors)[rows])
    assert arrays["rewards"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]


def test_commands_of_before_the_first_reward_are_left_out_and_counted(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(3)
    for i in range(4):
        run.hear("/reward", Float64MultiArray(data=[10.0 + i]))
        run.tick(0.1 * i, 0.0)
    conversion = convert([record(run)], source_of(run.manifest, reward=Reward.parse("/reward:data.0")))
    assert conversion.left_out["commands without an observation (no reward yet on topic /reward)"] == 3
    arrays = conversion.arrays()
    assert arrays["rewards"].tolist() == [10.0, 11.0, 12.0, 13.0]
    assert np.array_equal(arrays["observations"], np.array(run.vectors)[3:])


def test_what_is_left_out_for_one_reason_is_one_line_whatever_was_measured(run_of: Make, record: Make) -> None:
    run = run_of()
    for i in range(5):
        tool = PoseStamped()
        tool.header.stamp.sec, tool.header.stamp.nanosec = divmod(run.stamp, 1_000_000_000)
        tool.pose.orientation.w = 0.1 + 0.013 * i
        run.hear("/tool", tool)
        run.tick(0.1 * i, 0.0)
    run.finish_episode(success=True)
    field = ObservationField(
        name="yaw", topic="tool", message_type="geometry_msgs/msg/PoseStamped", extraction="yaw", size=1, unit="rad"
    )
    source = source_of(run.manifest.model_copy(update={"observation": (*run.manifest.observation, field)}))
    reasons = {reason: count for reason, count in convert([record(run)], source).left_out.items() if count}
    assert list(reasons.values()) == [5]
    assert "topic tool gives a quaternion of length …, which is no rotation" in next(iter(reasons))


def test_a_history_is_made_of_the_readings_a_control_period_apart(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(6)
    run.finish_episode(success=True)
    (joints,) = run.manifest.observation
    twice = joints.model_copy(update={"size": 4, "history": 2})
    source = source_of(run.manifest.model_copy(update={"observation": (twice,)}))
    conversion = convert([record(run)], source)
    before, now = np.array(run.vectors)[:-1], np.array(run.vectors)[1:]
    assert np.array_equal(conversion.arrays()["observations"][:-1], np.hstack([before, now]))
    assert sum(count for reason, count in conversion.left_out.items() if "has no reading" in reason) == 1


@pytest.mark.parametrize(("value", "action", "cut"), [(0.3, 1.0, 5), (-0.3, -1.0, 5), (0.1, 1.0, 0), (-0.1, -1.0, 0)])
def test_a_command_beyond_the_policys_range_is_cut_to_its_end(
    run_of: Make, record: Make, value: float, action: float, cut: int
) -> None:
    run = run_of(motion=False)
    run.ticks(5)  # shadows
    for i in range(5):
        run.send_hold(np.array([0.0, value]), run.START + i * run.PERIOD)
    run.finish_episode(success=True)
    conversion = convert([record(run)], source_of(run.manifest))
    assert conversion.arrays()["actions"].tolist() == [[0.0, action]] * 6
    assert conversion.clipped == cut


def test_an_episode_that_a_restart_of_the_clock_cut_off_is_kept_up_to_there(run_of: Make, record: Make) -> None:
    run = run_of()
    run.ticks(5)
    run.stamp = run.START
    run.loop.gate.restart()
    for i in range(4):
        run.tick(2.0 + i, 0.0)
    run.finish_episode(success=True)
    conversion = convert([record(run)], source_of(run.manifest))
    # Nothing was measured after the last command before the restart, so its row is only a successor; the last after it
    # solved the task, and its row is repeated.
    assert [trajectory.solved for trajectory in conversion.trajectories] == [False, True]
    rows = [*range(5), *range(5, 9), 8]
    arrays = conversion.arrays()
    assert np.array_equal(arrays["observations"], np.array(run.vectors)[rows])
    commands = np.array([values for stamp, values in run.commands if values != [0.0, 0.0]])
    assert np.array_equal(arrays["actions"], (commands[rows] / 0.1).astype(np.float32))
    assert np.flatnonzero(arrays["terminals"]).tolist() == [4, 9]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_command_that_is_not_finite_is_a_gap_and_is_counted(run_of: Make, record: Make, bad: float) -> None:
    run = run_of(motion=False)
    run.ticks(7)  # shadows, with telemetry that says so
    for i in range(7):
        run.send_hold(np.array([0.01 * i, bad if i == 3 else 0.0]), run.START + i * run.PERIOD)
    run.finish_episode(success=False)
    conversion = convert([record(run)], source_of(run.manifest))
    assert [len(trajectory.actions) for trajectory in conversion.trajectories] == [3, 3]
    assert conversion.left_out["commands without an observation (the command is not finite)"] == 1
    actions = conversion.arrays()["actions"]
    assert actions[:, 0] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.5, 0.6])
    assert conversion.clipped == 0


@pytest.mark.parametrize("wall_time", [True, False])
def test_a_reading_without_a_header_that_came_after_the_decision_is_not_its_observation(
    run_of: Make, record: Make, wall_time: bool
) -> None:
    state = ObservationField(
        name="o", topic="state", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=2, unit="1"
    )
    run = run_of({"observation": (state,)})
    begin = run.clock
    for i in range(6):
        run.clock = begin + i * run.PERIOD
        run.hear("/state", Float64MultiArray(data=[float(i), 0.0]))
        stamp = run.clock if wall_time else run.START + i * run.PERIOD
        run.clock += 9_000_000
        run.hear("/state", Float64MultiArray(data=[i + 0.5, 0.0]))  # while the policy thinks
        run.clock += 10_000_000
        run.send_hold(np.array([0.01, 0.0]), stamp)
    conversion = convert([record(run)], source_of(run.manifest, reward=Reward("/command", ("position", "0"))))
    seen = [float(i) if wall_time else i + 0.5 for i in range(6)]
    assert conversion.arrays()["observations"][:6, 0].tolist() == seen
    assert conversion.inferred is not wall_time


def test_faster_commands_are_taken_at_the_control_rate(run_of: Make, record: Make, joint_message: Make) -> None:
    run = run_of()
    for i in range(31):  # a teleoperation device at 60 Hz, a robot at 500 Hz
        stamp = run.START + round(i * 1e9 / 60)
        for j in range(8):
            run.hear("/joint_states", joint_message(stamp - 16_000_000 + 2_000_000 * j, float(i), float(j)))
        run.send_hold(np.array([0.001 * i, 0.0]), stamp)
    source = source_of(run.manifest, reward=Reward("/command", ("position", "1")))
    conversion = convert([record(run)], source)
    arrays = conversion.arrays()
    assert arrays["actions"][:, 0] == pytest.approx(0.01 * np.arange(0, 31, 3), rel=1e-6)
    assert arrays["observations"][:, 0].tolist() == list(range(0, 31, 3))
    assert np.flatnonzero(arrays["terminals"]).tolist() == [10]


@given(
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=40),
    period=st.sampled_from([50, 100]),
)
def test_control_ticks_lie_a_period_apart_and_cover_every_run(steps: list[int], period: int) -> None:
    stamps = np.cumsum(steps).tolist()
    runs = control_ticks(stamps, period)
    chosen = [row for run in runs for row in run]
    assert chosen == sorted(set(chosen))
    for run in runs:
        gaps = np.diff([stamps[row] for row in run])
        assert (np.abs(gaps - period) < period / 2).all()
    for before, after in zip(runs, runs[1:]):  # nothing that would have continued a run was passed over
        last = stamps[before[-1]]
        assert not [s for s in stamps if abs(s - last - period) < period / 2]
        assert stamps[after[0]] == min(s for s in stamps if s >= last + period / 2)


def test_jitter_does_not_end_a_trajectory_however_long() -> None:
    random = np.random.default_rng(0)
    stamps = np.cumsum(random.uniform(40, 62, size=5000)).astype(int).tolist()
    assert control_ticks(stamps, 50) == [list(range(5000))]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"command": "/cmd"}, "has no topic /cmd; it has /command, "),
        ({"reward": Reward("/rew", ("data",))}, "has no topic /rew"),
        ({"reward": Reward("/command", ("positions",))}, "has no number positions"),
        ({"reward": Reward("/command", ("position",))}, "has no number position "),
        ({"reward": Reward("/command", ("name", "0"))}, "has no number name.0 "),
        ({"reward": Reward("/command", ("position", "2"))}, "has no number position.2 "),
        ({"episode": "/nowhere"}, "no outcome of an episode was recorded on /nowhere; publish one, or give --reward"),
        ({"episode": "/command"}, "holds no outcome of an episode"),
    ],
)
def test_what_is_missing_is_named(run_of: Make, record: Make, changes: dict[str, Any], sentence: str) -> None:
    run = run_of()
    run.ticks(3)
    with pytest.raises(RecordingError, match=sentence):
        convert([record(run)], source_of(run.manifest, **changes))


def test_without_a_joint_state_the_commands_are_those_that_telemetry_says_reached_the_robot(
    run_of: Make, record: Make
) -> None:
    run = run_of()
    run.ticks(6)
    run.finish_episode(True)
    whole = convert([record(run)], source_of(run.manifest)).arrays()
    run.loop.gate.enable(False)
    run.ticks(6)  # shadows
    run.finish_episode(True)
    messages = [message for message in run.messages if message.topic not in ("/command", "/policy_node/shadow_command")]
    found = convert([record(run, messages)], source_of(run.manifest)).arrays()
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in whole.items()}


@pytest.fixture
def scaled_run(run_of: Make) -> Any:
    """A run whose contract sends a thousandth of the unit on ``command``."""
    run = run_of()
    contract = RobotContract.model_validate({"command": [{"type": "joint_state", "scale": 1000.0}]})
    (output,) = contract.outputs(run.manifest)

    def send(command: Command, *, motion: bool) -> None:
        run.commands.append((command.stamp, list(command.values)))
        sent = output.command(command)
        run.hear("/command", command_message(output.names, sent.values[0], sent.stamp))

    run.send_command = send
    run.ticks(7)
    run.finish_episode(success=True)
    return run


def test_of_a_scaled_output_the_actions_are_those_of_the_telemetry(scaled_run: Any, record: Make) -> None:
    arrays = convert([record(scaled_run)], source_of(scaled_run.manifest)).arrays()
    commands = np.array([values for _, values in scaled_run.commands])
    assert np.array_equal(arrays["actions"][:-1], (commands / 0.1).astype(np.float32))


def test_a_scaled_command_whose_telemetry_is_missing_is_left_out(scaled_run: Any, record: Make) -> None:
    told = [message for message in scaled_run.messages if message.topic == "/policy_node/telemetry"]
    messages = [message for message in scaled_run.messages if message is not told[3]]
    conversion = convert([record(scaled_run, messages)], source_of(scaled_run.manifest))
    assert [len(trajectory.actions) for trajectory in conversion.trajectories] == [3, 4]
    silent = [message for message in messages if message not in told]
    with pytest.raises(RecordingError, match="7 commands without an observation .no telemetry that says what was"):
        convert([record(scaled_run, silent)], source_of(scaled_run.manifest, converted={"command"})).arrays()


def test_what_somebody_else_commands_beside_the_node_needs_no_telemetry(run_of: Make, record: Make) -> None:
    run = run_of(motion=False)
    run.ticks(3)  # shadows, with telemetry that says so
    for i in range(4):
        run.send_hold(np.array([0.01 * i, 0.0]), run.START + i * run.PERIOD)
    conversion = convert([record(run)], source_of(run.manifest, reward=Reward("/command", ("position", "0"))))
    assert conversion.arrays()["actions"][:3, 0] == pytest.approx([0.0, 0.1, 0.2])


def test_slow_commands_make_no_trajectory_and_it_is_said(run_of: Make, record: Make) -> None:
    run = run_of()
    for _ in range(4):
        run.tick(0.0, 0.0)
        run.stamp += run.PERIOD
    run.finish_episode(success=False)
    with pytest.raises(RecordingError, match="no trajectory of two rows or more .4 commands alone"):
        convert([record(run)], source_of(run.manifest)).arrays()


@pytest.mark.parametrize("text", ["", "sucess", "/reward", ":data", "/reward:"])
def test_a_reward_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(RecordingError, match="expected success or TOPIC:FIELD"):
        Reward.parse(text)


def test_the_command_writes_what_training_reads(
    run_of: Make, record: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of()
    run.ticks(6)
    run.finish_episode(success=True)
    first = record(run)
    run.ticks(4)
    run.finish_episode(success=False)
    second = record(run)
    contract = tmp_path / "contract.json"
    contract.write_text(run.manifest.model_dump_json().replace('"scale":0.1', '"scale":0.001'))
    out = tmp_path / "data" / "run.npz"
    files = [str(first.path), str(second.path)]
    assert main(["dataset", "from-bag", *files, "--contract", str(contract), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "18 rows in 3 trajectories, 2 solved" in said
    assert "note: 16 commands lie outside the contract's scale and offset, and were cut to them" in said
    dataset = load_dataset(out)
    assert len(dataset.terminals) == 18
    assert set(dataset.extras) == {"rewards", "masks"}
    assert not list(out.parent.glob(".*"))


def test_training_refuses_another_scale_or_offset_than_the_rows_were_made_with(
    run_of: Make, record: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of()
    run.ticks(5)
    run.finish_episode(success=True)
    recording, out, contract = record(run).path, tmp_path / "mine.npz", tmp_path / "contract.json"
    contract.write_text(run.manifest.model_dump_json(include={"observation", "action", "control_rate"}))
    assert main(["dataset", "from-bag", str(recording), "--contract", str(contract), "--out", str(out)]) == 0
    dataset, told = load_dataset(out), read_contract(contract)
    assert dict(dataset.normalisation) == {"dx": (0.1, 0.0), "dy": (0.1, 0.0)}
    assert told.check(dataset) is told
    moved = replace(told, action=(told.action[0], told.action[1].model_copy(update={"offset": 0.05})))
    sentence = r"made of dy with scale 0.1 and offset 0, the contract has dy with 0.1 and 0.05; give the contract of"
    with pytest.raises(DatasetError, match=sentence):
        moved.check(dataset)
    with pytest.raises(DatasetError, match="made of dx .* the contract has a0 with 1 and 0"):
        plain_contract(dataset, 20.0).check(dataset)


def test_a_contract_without_a_scale_keeps_commands_in_their_unit(
    run_of: Make, record: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of()
    run.ticks(5)
    run.finish_episode(success=True)
    recording, out, contract = record(run).path, tmp_path / "mine.npz", tmp_path / "contract.json"
    values = json.loads(run.manifest.model_dump_json(include={"observation", "action", "control_rate"}))
    for action in values["action"]:
        del action["scale"], action["offset"]
        action.update(lower=-1e-3, upper=1e-3)  # which the commands are not cut to
    contract.write_text(json.dumps(values))
    assert main(["dataset", "from-bag", str(recording), "--contract", str(contract), "--out", str(out)]) == 0
    assert "were cut" not in capsys.readouterr().out
    dataset, told = load_dataset(out), read_contract(contract)
    commands = np.array([values for _, values in run.commands], np.float32)
    np.testing.assert_array_equal(dataset.actions[:5], commands[:5])
    assert dict(dataset.normalisation) == {"dx": (1.0, 0.0), "dy": (1.0, 0.0)}
    assert told.check(dataset) is told
    assert told.action_from_data == {"dx", "dy"}


def test_the_command_knows_from_the_robot_contract_what_is_scaled(
    scaled_run: Any, record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = record(scaled_run, [message for message in scaled_run.messages if "telemetry" not in message.topic])
    monkeypatch.setattr("qgf_ros.bundle.store.load_manifest", lambda folder: scaled_run.manifest)
    (tmp_path / "manifest.json").touch()
    contract = tmp_path / "robot.yaml"
    contract.write_text("command: [{type: joint_state, scale: 1000.0}]")
    options = ["--bundle", str(tmp_path), "--contract", str(contract), "--out", str(tmp_path / "run.npz")]
    assert main(["dataset", "from-bag", str(recording.path), *options]) == 2
    assert "7 commands without an observation (no telemetry that says what was commanded)" in capsys.readouterr().err


TURN = ObservationField(
    name="turn",
    topic="pose",
    message_type="geometry_msgs/msg/PoseStamped",
    extraction="quaternion_wxyz",
    size=4,
    unit="1",
)


def turned_run(run_of: Make, quaternions: list[tuple[float, ...]]) -> Any:
    """A run beside which a pose is published, a quaternion (x, y, z, w) per control period."""
    run = run_of()
    for quaternion in quaternions:
        pose = PoseStamped()
        pose.header.stamp.sec, pose.header.stamp.nanosec = divmod(run.stamp, 10**9)
        orientation = pose.pose.orientation
        orientation.x, orientation.y, orientation.z, orientation.w = quaternion
        run.hear("/pose", pose)
        run.tick(0.0, 0.0)
    run.finish_episode(success=True)
    return run


@pytest.mark.parametrize("signs", [[1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, -1, 1]])
def test_quaternions_of_a_data_set_have_one_sign(run_of: Make, record: Make, signs: list[int]) -> None:
    half = 0.5**0.5
    run = turned_run(run_of, [(0.0, 0.0, sign * half, sign * half) for sign in signs])
    source = source_of(run.manifest.model_copy(update={"observation": (*run.manifest.observation, TURN)}))
    rows = convert([record(run)], source).arrays()["observations"]
    np.testing.assert_allclose(rows[:, 2:], np.tile([half, 0.0, 0.0, half], (5, 1)), rtol=1e-6)


def test_quaternions_have_the_sign_of_the_training_data_where_it_is_known(run_of: Make, record: Make) -> None:
    known = TURN.model_copy(update={"mean_quaternion": (0.0, 0.0, 0.0, -1.0)})
    run = turned_run(run_of, [(0.0, 0.0, 0.8, 0.6)] * 4)
    source = source_of(run.manifest.model_copy(update={"observation": (*run.manifest.observation, known)}))
    rows = convert([record(run)], source).arrays()["observations"]
    np.testing.assert_allclose(rows[:, 2:], np.tile([-0.6, 0.0, 0.0, -0.8], (5, 1)), rtol=1e-6)


@pytest.mark.parametrize("length", [0.0, 2.0])
def test_quaternions_that_are_no_rotation_make_no_rows(run_of: Make, record: Make, length: float) -> None:
    run = turned_run(run_of, [(0.0, 0.0, 0.0, length)] * 4)
    source = source_of(run.manifest.model_copy(update={"observation": (*run.manifest.observation, TURN)}))
    with pytest.raises(RecordingError, match="field turn: topic pose gives a quaternion of length"):
        convert([record(run)], source).arrays()
