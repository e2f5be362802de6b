"""Replay: the same bits where everything is the same, else how far apart and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from rcl_interfaces.msg import Parameter, ParameterEvent, ParameterType, ParameterValue

from qgf_ros.bundle.file_records import FileRecord
from qgf_ros.cli import main
from qgf_ros.control.robot_contract import RobotContract
from qgf_ros.control.run_options import REPLAYABLE
from qgf_ros.errors import GuidanceError, RecordingError, SafetyError
from qgf_ros.recording.comparison import Replay
from qgf_ros.recording.recording import Recording
from qgf_ros.recording.replay import ARITHMETIC, replay

Make = Callable[..., Any]


def answer(recording: Recording, policy: Any, **overrides: Any) -> Replay:
    return replay(recording, policy, policy.manifest.observation, overrides=overrides)


def test_an_eventful_run_is_replayed_to_the_bit(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of({"max_rate": 1.0}, seed=3)
    run.ticks(5)
    run.change(reseed=True, seed=4)  # the start of another episode
    run.stamp += 10**9
    run.ticks(5)
    run.change(num_samples=3, guidance_weight=0.7)
    run.ticks(3)
    run.change()  # a parameter set to the value it had changes nothing
    run.ticks(3)
    run.change(reseed=True)  # but the seed drops the chunk
    run.ticks(3)
    run.loop.gate.hold("a test")
    run.ticks(4)
    run.change(critic="far", execution_horizon=4)
    run.ticks(6)
    outcome = answer(record(run), policy_of(max_rate=1.0)).record()
    assert (outcome["ticks"], outcome["identical"], outcome["not_replayed"]) == (29, 29, {})
    assert all(numbers["largest"] == 0.0 for numbers in outcome["dimensions"].values())
    assert outcome["remarks"] == []


def test_another_weight_differs_by_what_a_run_with_it_differs(run_of: Make, record: Make, policy_of: Make) -> None:
    run, other = run_of(), run_of(guidance_weight=2.0)
    for each in (run, other):
        each.ticks(12)
    outcome = answer(record(run), policy_of(), guidance_weight=2.0).record()
    ours = np.array([values for _, values in run.commands])
    theirs = np.array([values for _, values in other.commands])
    distances = np.abs(ours - theirs)
    assert outcome["different"] == int((distances > 0).any(axis=1).sum()) > 0
    assert outcome["causes"] == {"guidance_weight 0.5 → 2.0": outcome["different"]}
    for name, column in zip(("dx", "dy"), distances.T):
        numbers = outcome["dimensions"][name]
        assert (numbers["mean"], numbers["largest"]) == pytest.approx((column.mean(), column.max()))
        assert numbers["different"] == int((column > 0).sum())
    assert outcome["first_difference"] == run.commands[int((distances > 0).any(axis=1).argmax())][0]


@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        ({"critic": "far"}, {"critic": "far"}),
        ({"seed": 9}, {"seed": 9}),
        ({"num_samples": 4}, {"num_samples": 4}),
    ],
)
def test_other_settings_give_the_commands_of_a_run_with_them(
    run_of: Make, record: Make, policy_of: Make, overrides: dict[str, Any], settings: dict[str, Any]
) -> None:
    run, other = run_of(), run_of(**settings)
    for each in (run, other):
        each.ticks(10)
    outcome = answer(record(run), policy_of(), **overrides)
    assert [list(tick.replayed) for tick in outcome.ticks] == [values for _, values in other.commands]
    (cause,) = outcome.record()["causes"]
    assert cause.startswith(next(iter(overrides)))


def test_another_bundle_is_named_as_the_cause(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()
    run.ticks(4)
    policy = policy_of(files={"velocity.onnx": FileRecord(sha256="1" * 64, size=1)})
    policy.act = lambda *arguments, **options: type(policy).act(policy, arguments[0] + 1.0, *arguments[1:], **options)
    assert answer(record(run), policy).record()["causes"] == {"another velocity.onnx": 4}


def test_a_difference_without_any_other_cause_is_the_arithmetic(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()
    run.ticks(4)
    policy = policy_of()
    policy.act = lambda *arguments, **options: type(policy).act(policy, arguments[0] + 1e-3, *arguments[1:], **options)
    assert answer(record(run), policy).record()["causes"] == {ARITHMETIC: 4}


def test_a_recording_of_the_middle_of_a_run_is_replayed_from_its_first_inference(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of()
    run.ticks(11)
    late = run.messages[9:]  # from the fourth tick on, which is within a chunk; a tick leaves three messages
    outcome = answer(record(run, late), policy_of()).record()
    assert outcome["different"] == 0
    assert outcome["identical"] == 7
    assert sum(outcome["not_replayed"].values()) == 1
    assert any("began before the recording" in reason for reason in outcome["not_replayed"])
    assert any("begins within a run" in remark for remark in outcome["remarks"])


def test_an_input_that_was_not_recorded_is_not_taken_for_a_difference(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of()
    run.ticks(4)
    run.tick(0.5, 0.5, publish=False)
    run.ticks(5)
    outcome = answer(record(run), policy_of()).record()
    assert outcome["different"] == 0
    assert outcome["not_replayed"]["the node saw another observation than the one recorded"] == 1


def test_options_of_guidance_are_those_in_force_at_each_tick(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()

    def limit(norm: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=norm)
        changed = [Parameter(name="max_gradient_norm", value=value)]
        run.hear("/parameter_events", ParameterEvent(node="/policy_node", changed_parameters=changed))
        run.change(max_gradient_norm=norm)

    run.change(max_gradient_norm=0.25)
    run.ticks(4)
    limit(0.5)
    run.ticks(4)
    limit(0.75)
    run.ticks(4)
    recording = record(run, qgf_parameters={"max_gradient_norm": json.dumps(0.25), "bundle": '"fake"'})
    outcome = answer(recording, policy_of()).record()
    assert (outcome["identical"], outcome["ticks"]) == (12, 12)
    unknowing = answer(record(run), policy_of()).record()
    assert unknowing["different"] == 4
    limited = answer(recording, policy_of(), max_gradient_norm=0.5).record()
    assert limited["causes"] == {"max_gradient_norm 0.25 → 0.5": 4, "max_gradient_norm 0.75 → 0.5": 4}


def test_a_clock_that_was_restarted_is_followed(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()
    run.ticks(5)
    run.stamp -= 10**9
    run.loop.gate.restart()
    run.ticks(5)
    outcome = answer(record(run), policy_of()).record()
    assert (outcome["identical"], outcome["ticks"]) == (10, 10)


def test_a_session_that_repeats_the_stamps_of_another_is_replayed_with_its_own_inputs(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of()
    run.ticks(5)
    run.loop.gate.hold("a test")
    run.stamp = run.START
    run.loop.gate.restart()
    for i in range(7):
        run.tick(1.0 + 0.1 * i, 2.0)
    outcome = answer(record(run), policy_of()).record()
    assert (outcome["identical"], outcome["ticks"], outcome["not_replayed"]) == (12, 12, {})


def test_a_dry_run_is_replayed_by_its_shadows_and_a_change_of_motion_is_followed(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of(motion=False)
    run.ticks(5)
    outcome = answer(record(run), policy_of()).record()
    assert (outcome["identical"], outcome["ticks"], outcome["not_replayed"]) == (5, 5, {})
    run.loop.gate.enable(True)
    run.ticks(5)
    run.loop.gate.enable(False)
    run.ticks(5)
    outcome = answer(record(run), policy_of()).record()
    assert (outcome["identical"], outcome["ticks"], outcome["not_replayed"]) == (15, 15, {})


def test_a_run_whose_outputs_are_no_joint_state_is_replayed_by_what_its_telemetry_says(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of({"max_rate": 1.0})
    run.ticks(5)
    run.loop.gate.hold("a test")
    run.ticks(5)
    outcome = answer(record(run, [m for m in run.messages if m.topic != "/command"]), policy_of(max_rate=1.0))
    assert outcome.record()["identical"] == 10
    sent = [values for i, (_, values) in enumerate(run.commands) if i != 5]  # where the hold was
    assert [list(tick.recorded) for tick in outcome.ticks] == sent


def test_a_fault_that_is_silence_ends_a_chunk_as_a_hold_does(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of({"max_rate": 1.0}, on_fault="stop_publishing")
    run.ticks(5)
    run.loop.gate.hold("a test")
    assert len(run.commands) == 5
    run.ticks(5)
    outcome = answer(record(run), policy_of(max_rate=1.0)).record()
    assert (outcome["identical"], outcome["ticks"]) == (10, 10)


@pytest.mark.parametrize(
    "command",
    [
        None,
        "",
        "[0.1]",
        "[0.1, 0.2, 0.3]",
        '["a", "b"]',
        "{}",
        "0.1",
        "[[0.1, 0.2]]",
        "[" * 9999,
        "[1e999, 2" + "0" * 400 + "]",
    ],
)
def test_telemetry_that_does_not_say_what_was_commanded_is_said(
    run_of: Make, record: Make, policy_of: Make, command: str | None
) -> None:
    run = run_of()
    send = run.send_telemetry
    run.send_telemetry = lambda figures, stamp: send(
        {name: value for name, value in {**figures, "command": command}.items() if value is not None}, stamp
    )
    run.ticks(3)
    (reason,) = answer(record(run), policy_of()).record()["not_replayed"]
    assert "does not say what was commanded, expected 2 values" in reason


def test_an_asynchronous_run_is_refused_with_what_to_do_and_one_that_was_so_for_a_while_in_part(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of()
    send = run.send_telemetry
    run.send_telemetry = lambda figures, stamp: send({**figures, "execution": "asynchronous"}, stamp)
    run.ticks(3)
    with pytest.raises(
        RecordingError, match="is of asynchronous execution, .*; replay a synchronous run, or make a data"
    ):
        answer(record(run), policy_of())
    run.send_telemetry = send
    run.change(reseed=True)
    run.ticks(4)
    outcome = answer(record(run), policy_of()).record()
    assert (outcome["identical"], sum(outcome["not_replayed"].values())) == (4, 3)


def test_limits_that_were_set_in_the_run_hold_in_its_replay(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of({"max_rate": 0.05})
    run.ticks(12)
    policy = policy_of()
    recording = record(run, qgf_parameters={"limits": json.dumps("dx.max_rate=0.05, dy.max_rate=0.05")})
    outcome = answer(recording, policy).record()
    assert (outcome["identical"], outcome["ticks"]) == (12, 12)
    assert policy.manifest == policy_of().manifest
    unlimited = answer(record(run), policy).record()
    assert unlimited["different"] > 0
    unknown = record(run, qgf_parameters={"limits": json.dumps("nothing.max_rate=1")})
    with pytest.raises(SafetyError, match="expected component.attribute=value with a component of dx, dy"):
        answer(unknown, policy)


def test_the_execution_horizon_is_that_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """What another would have commanded depends on inferences that the run never made."""
    assert "execution_horizon" not in REPLAYABLE
    assert main(["replay", "run.mcap", "--bundle", "cube-single", "--execution-horizon", "2"]) == 2
    assert "qgf replay has no option --execution-horizon" in capsys.readouterr().err


def test_topics_of_a_robot_contract_are_read(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()
    run.ticks(4)
    moved = [
        type(m)("/ur/joints", *list(vars(m).values())[1:]) if m.topic == "/joint_states" else m for m in run.messages
    ]
    policy = policy_of()
    contract = RobotContract.model_validate({"fields": {"angle": {"topic": "/ur/joints"}}})
    outcome = replay(record(run, moved), policy, contract.apply(policy.manifest)).record()
    assert (outcome["identical"], outcome["ticks"]) == (4, 4)
    with pytest.raises(RecordingError, match="has no topic /joint_states; it has /command, "):
        answer(record(run, moved), policy)


def test_damaged_telemetry_is_not_believed(run_of: Make, record: Make, policy_of: Make) -> None:
    run = run_of()
    send = run.send_telemetry
    damages = [{"noise_drawn": 10**15}, {"num_samples": 10**12}, {"seed": "x"}, {"guidance_weight": "much"}]

    def lie(figures: Any, stamp: int) -> None:
        send({**figures, **(damages.pop() if damages else {})}, stamp)

    run.send_telemetry = lie
    run.ticks(12)
    outcome = answer(record(run), policy_of()).record()
    assert outcome["different"] == 0
    assert outcome["identical"] == 8
    assert all("telemetry" in reason or "not replayed" in reason for reason in outcome["not_replayed"])


def test_settings_the_bundle_cannot_run_and_runs_without_telemetry_are_refused(
    run_of: Make, record: Make, policy_of: Make
) -> None:
    run = run_of()
    run.ticks(3)
    with pytest.raises(GuidanceError, match="critic 'nobody' was given; bundle fake has near, far"):
        answer(record(run), policy_of(), critic="nobody")
    silent = [message for message in run.messages if "telemetry" not in message.topic]
    with pytest.raises(RecordingError, match="has no messages on /policy_node/telemetry"):
        answer(record(run, silent), policy_of())
