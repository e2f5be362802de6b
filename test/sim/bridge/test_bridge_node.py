"""The bridge over real DDS: it runs in its own process, the tests are the commanding node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the bridge needs the ros extra")
pytest.importorskip("ogbench", reason="the bridge needs the sim extra")

from bridge_peer import (
    FIELDS,
    NAMES,
    OWN,
    PATIENCE,
    PERIOD,
    Bridge,
    Commander,
    feedback,
    in_process,
    own_bridges,
    ros_graph,
    same_bits,
)
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image
from short_episodes import STEPS
from std_srvs.srv import SetBool, Trigger

from qgf_ros.errors import SimulationError
from qgf_ros.nodes.messages import command_message, from_time
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import ENVIRONMENTS


@pytest.fixture(scope="module", autouse=True)
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ros_graph(tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "deep" / "results.jsonl"


@pytest.fixture(scope="module")
def bridge(results: Path) -> Iterator[Bridge]:
    """One lockstep bridge for the tests that can share it; episodes start on ~/reset alone."""
    results.parent.mkdir()
    running = Bridge(results.parent / "log", auto_reset=False, autostart=False, results_file=str(results))
    yield running
    assert running.stop() == 0


@pytest.fixture
def commander(bridge: Bridge) -> Iterator[Commander]:
    node = Commander()
    yield node
    node.close()


def test_lockstep_repeats_to_the_bit_and_equals_the_loop_without_ros(commander: Commander) -> None:
    runs = []
    for _ in range(2):
        commander.reset(task=2, seed=11)
        for _ in range(60):
            commander.step(feedback(commander.vectors[-1]))
        runs.append(list(commander.vectors))
        assert np.diff(commander.stamps).tolist() == [PERIOD] * 60
    assert same_bits(runs[0], runs[1])
    assert same_bits(runs[0], in_process(2, 11, 60))


def test_other_seeds_and_tasks_give_other_episodes_at_the_next_reset(commander: Commander) -> None:
    commander.reset(task=2, seed=11)
    assert all(result.successful for result in commander.set(task=3, seed=12))
    commander.step(np.zeros(5))
    assert same_bits(commander.vectors, in_process(2, 11, 1, lambda _: np.zeros(5)))
    commander.reset()
    assert same_bits(commander.vectors, in_process(3, 12, 0))


def test_late_foreign_repeated_and_malformed_commands_do_not_step_and_are_counted(
    commander: Commander, bridge: Bridge
) -> None:
    commander.reset(task=1, seed=5)
    for i in range(200):
        stamp = commander.stamps[-1]
        answer = feedback(commander.vectors[-1])
        if i == 20:
            commander.send(-answer, stamp - 2 * PERIOD)  # late
            commander.send(-answer, stamp - PERIOD)  # a repeated answer to the observation before
            commander.send(-answer, stamp + PERIOD)  # an observation that is not out yet
            commander.send(-answer, commander.stamps[0] - 20 * PERIOD)  # another episode's
            commander.send(np.full(5, np.nan), stamp)
            wrong = command_message(NAMES, answer, stamp)
            wrong.name = ["dx", "dy", "dz", "droll", "dgripper"]
            commander.publisher.publish(wrong)
            short = command_message(NAMES, answer, stamp)
            short.position = short.position[:3]
            commander.publisher.publish(short)
        if i < 199:
            commander.step(answer)
        else:
            commander.outcomes.clear()
            commander.send(answer, stamp)
    commander.until(lambda: commander.outcomes)
    assert same_bits(commander.vectors, in_process(1, 5, 199))
    (outcome,) = commander.outcomes
    assert (outcome["task"], outcome["seed"], outcome["success"], outcome["length"]) == (1, 5, False, 200)
    assert outcome["late_commands"] == 1
    assert outcome["refused_commands"] == 3
    log = bridge.log.read_text()
    assert "holds a value that is not finite" in log or "were given, expected one value for each of" in log
    assert "no observation of this episode" in log


def test_the_outcome_is_latched_and_stands_in_the_results_file(commander: Commander, results: Path) -> None:
    commander.reset(task=1, seed=6)
    for _ in range(199):
        commander.step(np.zeros(5))
    commander.send(np.zeros(5), commander.stamps[-1])
    # The latched outcome of an earlier episode may still be on its way when this one begins.
    commander.until(lambda: commander.outcomes and commander.outcomes[-1]["seed"] == 6)
    latecomer = Commander()
    latecomer.until(lambda: latecomer.outcomes)
    latecomer.close()
    assert latecomer.outcomes == commander.outcomes[-1:]
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert lines[-1] == commander.outcomes[-1]


def test_a_node_that_dies_is_waited_for_and_another_goes_on(commander: Commander) -> None:
    commander.reset(task=4, seed=9)
    for _ in range(10):
        commander.step(feedback(commander.vectors[-1]))
    first = commander.vectors
    commander.close()
    other = Commander()
    other.until(lambda: other.stamps)
    assert other.vectors[0].tobytes() == first[-1].tobytes()
    for _ in range(10):
        other.step(feedback(other.vectors[-1]))
    other.close()
    assert same_bits(first + other.vectors[1:], in_process(4, 9, 20))


def test_clock_never_goes_back_and_jumps_a_second_at_a_reset(commander: Commander) -> None:
    commander.reset(task=1, seed=1)
    last = commander.stamps[-1]
    commander.reset(task=1, seed=1)
    assert commander.stamps[-1] == last + 1_000_000_000
    commander.until(lambda: commander.clock and commander.clock[-1] == commander.stamps[-1])
    assert (np.diff(commander.clock) >= 0).all()


def test_pause_stops_and_step_does_one_step_only(commander: Commander) -> None:
    commander.reset(task=1, seed=1)
    refused = commander.call(Trigger, "step", Trigger.Request())
    assert not refused.success
    assert "pause" in refused.message
    assert commander.call(SetBool, "pause", SetBool.Request(data=True)).success
    commander.send(np.zeros(5), commander.stamps[-1])
    # Half a second of standing still: the set is published again with its old stamp.
    clocks = len(commander.clock)
    commander.until(lambda: len(commander.clock) > clocks + 1)
    assert len(commander.stamps) == 1
    assert commander.call(Trigger, "step", Trigger.Request()).success
    commander.until(lambda: len(commander.stamps) == 2)
    commander.send(np.zeros(5), commander.stamps[-1])
    clocks = len(commander.clock)
    commander.until(lambda: len(commander.clock) > clocks + 1)
    assert len(commander.stamps) == 2
    assert commander.call(SetBool, "pause", SetBool.Request(data=False)).success
    commander.until(lambda: len(commander.stamps) == 3)


@pytest.mark.parametrize(("name", "value"), [("task", 6), ("seed", -1), ("hold_limit", -0.1)])
def test_a_bad_parameter_is_refused_with_the_reason(commander: Commander, name: str, value: Any) -> None:
    before = commander.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values
    (result,) = commander.set(**{name: value})
    assert not result.successful
    assert name in result.reason
    assert commander.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values == before


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bridge]]:
    """Starts a bridge of the test's own, in a namespace of its own, and ends it with the test."""
    with own_bridges(tmp_path / "log", OWN) as starter:
        yield starter


def test_auto_reset_counts_seeds_up_and_the_process_ends_after_the_last_episode(
    start: Callable[..., Bridge], tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text('{"half a line')  # what a process killed while writing leaves behind
    running = start(module="short_episodes", task=1, seed=40, episodes=2, exit_when_done=True, results_file=str(out))
    commander = Commander(OWN)
    commander.until(lambda: commander.stamps)
    for _ in range(2 * STEPS - 1):
        commander.step(np.zeros(5))
    commander.send(np.zeros(5), commander.stamps[-1])
    assert running.process.wait(timeout=PATIENCE) == 0
    commander.until(lambda: len(commander.outcomes) == 2)
    commander.close()
    lines = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert [(line["episode"], line["seed"], line["length"]) for line in lines] == [(1, 40, STEPS), (2, 41, STEPS)]
    assert commander.outcomes == lines


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENVIRONMENTS if name not in ("cube-single", "scene")]


@pytest.mark.parametrize("environment", ["scene", *SLOW])
def test_every_family_in_lockstep_equals_the_loop_without_ros(start: Callable[..., Bridge], environment: str) -> None:
    running = start(environment=environment, task=3, seed=7)
    commander = Commander(OWN, environment)
    commander.until(lambda: commander.stamps)
    for _ in range(8):
        commander.step(feedback(commander.vectors[-1]))
    commander.close()
    assert same_bits(commander.vectors, in_process(3, 7, 8, environment=environment))
    assert running.stop() == 0


# One handler serves both, and the bridge that the tests share must end so with SIGTERM.
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_the_process_cleanly_and_leaves_whole_lines(
    start: Callable[..., Bridge], tmp_path: Path, number: int
) -> None:
    out = tmp_path / "results.jsonl"
    running = start(module="short_episodes", task=1, results_file=str(out))
    commander = Commander(OWN)
    commander.until(lambda: commander.stamps)
    for _ in range(STEPS + 6):
        commander.step(np.zeros(5))
    assert running.stop(number) == 0
    commander.close()
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 1
    assert "Traceback" not in running.log.read_text()


def test_real_time_steps_without_commands_holds_the_last_and_then_stands_still(start: Callable[..., Bridge]) -> None:
    running = start(mode="realtime", task=1, seed=3, auto_reset=False, hold_limit=10.0)
    commander = Commander(OWN)
    heard = commander.follow()
    commander.until(lambda: len(commander.stamps) >= 5)
    # No command has come yet: time goes on, the robot has not moved.
    assert commander.vectors[-1].tobytes() == commander.vectors[0].tobytes()
    push = np.array([0.0, 0.0, 0.05, 0.0, 0.0])
    for _ in range(20):
        count = len(commander.stamps)
        commander.send(push, commander.stamps[-1])
        commander.until(lambda count=count: len(commander.stamps) > count)
    # No faster than the wall clock; how exactly it keeps up is tested with a clock of our own in test_pacing.py.
    stamps, times = np.array(heard).T
    assert stamps[-1] - stamps[0] <= times[-1] - times[0] + 2 * PERIOD
    assert commander.vectors[-1][14] > commander.vectors[0][14]  # the effector went up
    silent = len(commander.stamps)
    commander.send(push, commander.stamps[-4])  # late, and older than the last command
    commander.until(lambda: len(commander.stamps) > silent + 3)
    assert commander.set(hold_limit=0.25)[0].successful  # in force although no command comes any more
    commander.until(lambda: commander.outcomes)
    # More than one step where this process came too late to see it.
    steps = np.diff(commander.stamps[silent + 30 :]) / PERIOD
    rises = np.diff([vector[14] for vector in commander.vectors[silent + 30 :]]) / 10.0 / steps
    # Standing still, but for the sag of OGBench's controller, where 50 mm a step upwards were commanded.
    assert rises.max() < 0.0005
    assert rises.min() > -0.002
    assert np.median(rises) < -0.0005  # pushed on, it would stay at the top of its workspace
    commander.close()
    (outcome,) = commander.outcomes
    assert outcome["late_commands"] >= 1
    assert outcome["held_steps"] >= 100
    assert running.stop() == 0


def test_replay_reports_how_commands_differ_from_the_recorded_actions(
    start: Callable[..., Bridge], tmp_path: Path
) -> None:
    from qgf_sim.worlds.oracle_data import episode_seed, generate

    path, _ = generate("cube-single", "play", 2, 3, tmp_path / "recorded.npz", workers=1, steps=12)
    assert episode_seed(3, 0, 0) != episode_seed(3, 0, 1)
    with np.load(path) as archive:
        observations, actions = archive["observations"], archive["actions"]
    out = tmp_path / "results.jsonl"
    running = start(mode="replay", replay_file=str(path), exit_when_done=True, results_file=str(out))
    commander = Commander(OWN)
    scale = np.array([field.scale for field in FIELDS])
    offset = np.array([0.01, 0.0, -0.02, 0.1, 0.5])
    for row, action in enumerate(actions):
        commander.until(lambda row=row: len(commander.stamps) > row)
        np.testing.assert_allclose(commander.vectors[row], observations[row], atol=1e-6)
        worst = 2.0 if row == 5 else 1.0
        commander.send(action * scale + worst * offset, commander.stamps[row])
    assert running.process.wait(timeout=PATIENCE) == 0
    commander.until(lambda: len(commander.outcomes) == 2)
    commander.close()
    begun = "environment cube-single, mode replay, task 1, seed 0, episodes without end; waiting for commands on /own/command"
    assert running.log.read_text().count(begun) == 1
    first, second = (json.loads(line) for line in out.read_text().splitlines())
    assert (first["seed"], second["seed"], first["length"], first["success"]) == (0, 1, 12, None)
    for i, field in enumerate(FIELDS):
        assert first["replay"]["difference_max"][field.name] == pytest.approx(2 * abs(offset[i]), abs=1e-9)
        assert first["replay"]["difference_mean"][field.name] == pytest.approx(abs(offset[i]) * 13 / 12, abs=1e-9)
        assert second["replay"]["difference_max"][field.name] == pytest.approx(abs(offset[i]), abs=1e-9)


REFUSALS = [
    ("mode:=replay", "replay_file"),
    ("mode:=replay replay_file:=nowhere.npz", "nowhere.npz does not exist"),
    ("mode:=fast", "it is one of lockstep, realtime, replay"),
    ("environment:=cube-dozen", "the known ones are cube-single"),
    ("task:=9", "task 9 was given; it must be 1 to 5"),
    ("tsk:=2", "sim_bridge has no parameter tsk; did you mean task?"),
    ("results_file:=/dev/null/results.jsonl", "give another path"),
]
STARTS = """
import sys
from qgf_sim.bridge.node import main
for parameters in sys.argv[1:]:
    words = [word for one in parameters.split() for word in ("-p", one)]
    print("ended with", main(["--ros-args", "-r", "__ns:=/own", *words]), flush=True)
"""


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """What the bridge says with each of the parameters above; one process tries to start it with one after the other."""
    command = [sys.executable, "-c", STARTS, *(parameters for parameters, _ in REFUSALS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
    return dict(zip((parameters for parameters, _ in REFUSALS), re.split(r"(?<=ended with 1)\n", done.stdout)))


@pytest.mark.parametrize(("parameters", "sentence"), REFUSALS)
def test_a_bridge_that_cannot_start_says_why_in_one_sentence(
    refusals: dict[str, str], parameters: str, sentence: str
) -> None:
    said, end = refusals[parameters].rsplit("\n", 1)
    assert end == "ended with 1"
    assert sentence in said
    assert "\n" not in said


def test_a_process_whose_bridge_cannot_start_ends_with_an_error(start: Callable[..., Bridge]) -> None:
    running = start(mode="fast")
    assert running.process.wait(timeout=PATIENCE) == 1
    log = running.log.read_text()
    assert "it is one of lockstep, realtime, replay" in log
    assert "Traceback" not in log


def test_camera_publishes_pictures_with_the_stamps_of_the_observations(start: Callable[..., Bridge]) -> None:
    env = TaskEnvironment("cube-single", 1)
    env.reset(0)
    try:
        env.render(32, 24)
    except Exception as error:
        pytest.skip(f"no GL back end: {error}")
    finally:
        env.close()
    running = start(camera=True, camera_width=64, camera_height=48)
    commander = Commander(OWN)
    pictures: list[Image] = []
    commander.node.create_subscription(Image, "sim_bridge/image", pictures.append, 1)
    commander.until(lambda: commander.stamps and pictures)
    picture = pictures[-1]
    assert (picture.width, picture.height, picture.encoding, len(picture.data)) == (64, 48, "rgb8", 64 * 48 * 3)
    assert np.std(picture.data) > 5.0
    assert from_time(picture.header.stamp) in commander.stamps
    commander.close()
    assert running.stop() == 0


#: Where the bridge of a robot that sees is.
SEEING = "/seeing"


@pytest.fixture
def start_seeing(tmp_path: Path) -> Iterator[Callable[..., Bridge]]:
    """Starts a bridge in a namespace in which no other ever was, whose topics might still be known."""
    with own_bridges(tmp_path / "log", SEEING) as starter:
        yield starter


def test_a_robot_that_sees_publishes_its_picture_as_part_of_every_observation(
    start_seeing: Callable[..., Bridge],
) -> None:
    name = "visual-cube-single"
    env = TaskEnvironment(name, 3)
    try:
        env.reset(7)
    except SimulationError as error:
        pytest.skip(str(error))
    running = start_seeing(environment=name, task=3, seed=7)
    commander = Commander(SEEING, name)
    pictures: dict[int, bytes] = {}

    def keep(message: Image) -> None:
        assert (message.encoding, message.height, message.width, message.step) == ("rgb8", 64, 64, 192)
        pictures[from_time(message.header.stamp)] = bytes(message.data)

    commander.node.create_subscription(Image, "camera/image_raw", keep, 10)
    commander.until(lambda: commander.stamps)
    commander.until(lambda: commander.stamps[0] in pictures)
    for _ in range(3):
        commander.step(feedback(commander.vectors[-1]))
    commander.until(lambda: set(commander.stamps) <= pictures.keys())
    for stamp, vector in zip(commander.stamps, commander.vectors):
        assert pictures[stamp] == env.frames()["camera"].tobytes()
        env.step(feedback(vector))
    assert len(set(pictures.values())) == len(commander.stamps) == 4
    known = (topic for topic, _ in commander.node.get_topic_names_and_types() if topic.startswith(f"{SEEING}/"))
    topics = {topic.rpartition("/")[2] for topic in known}
    assert "image_raw" in topics and not {"goal", "object_goal"} & topics  # which would be pictures
    commander.close()
    env.close()
    assert running.stop() == 0


def test_without_a_camera_neither_gl_nor_opencv_is_imported() -> None:
    code = "import sys, qgf_sim.bridge.node; print([m for m in sys.modules if m in ('OpenGL', 'cv2')])"
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "QGF_MUJOCO_GL")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
