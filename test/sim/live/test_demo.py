"""The demo, whole: two processes over DDS, the same bits as in process, and nobody left behind."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")

from rclpy.client import Client
from rclpy.task import Future

from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_sim import processes
from qgf_sim.live.conductor import Conductor
from qgf_sim.live.demo import BRIDGE, NODE, run_demo
from qgf_sim.processes import Child, private_graph, reserve_domain, stop_all, worker_pool
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.worlds.shift import Shift

pytestmark = pytest.mark.usefixtures("short")

TASK = 2
PATIENCE = 120.0  # [s], for a machine that is busy with something else


class Display:
    """Remembers what it is shown; `on_note` may interfere."""

    def __init__(self, on_note=lambda text: None):
        self.warnings = []
        self.episodes = []
        self.note = on_note

    def warn(self, text):
        self.warnings.append(text)

    def add(self, episode):
        self.episodes.append(episode)


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Where the demo puts its folder of logs."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """No process is given up, and started again, for being slow."""
    for name in ("STARTUP_TIMEOUT", "SILENCE_TIMEOUT"):
        monkeypatch.setattr(f"qgf_sim.live.conductor.{name}", PATIENCE)


@pytest.fixture
def children(monkeypatch):
    """Every child started during the test; none may live after it."""
    started = []
    original = Child.__init__

    def remember(self, *arguments, **options):
        original(self, *arguments, **options)
        started.append(self)

    monkeypatch.setattr(Child, "__init__", remember)
    yield started
    assert started
    assert not [child.name for child in started if group_lives(child.pid)]


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, timeout=PATIENCE):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the event did not come"
        time.sleep(0.02)


def same(ours, reference):
    """Compare all that was heard: in lockstep, one wrong bit changes every command after it."""
    assert [(e.seed, e.success, e.length) for e in ours] == [(e.seed, e.success, e.length) for e in reference]
    for a, b in zip(ours, reference, strict=True):
        assert a.commands.shape == (a.length, 5)
        heard = ~np.isnan(a.commands).any(axis=1)
        assert heard.any()
        assert np.array_equal(a.commands[heard], b.commands[heard]), f"seed {a.seed} differs"


def in_order(some, others):
    """Whether `some` are among `others`, in their order."""
    rest = iter(others)
    return all(any(one == pytest.approx(other) for other in rest) for one in some)


@pytest.fixture
def late_messages(monkeypatch):
    """The last command and telemetry of an episode come once more while the next one is begun."""
    newest = {}

    def noting(take):
        def note(conductor, message):
            newest[take] = message
            take(conductor, message)

        return note

    for name in ("_on_command", "_on_telemetry"):
        monkeypatch.setattr(Conductor, name, noting(getattr(Conductor, name)))
    call = Conductor._call

    def begin(conductor, client, *arguments):
        for take, message in newest.items():
            take(conductor, message)
        return call(conductor, client, *arguments)

    monkeypatch.setattr(Conductor, "_call", begin)


@pytest.fixture
def lost_answers(monkeypatch):
    """The first answer of either process does not come, as where it has not discovered yet who asks."""
    monkeypatch.setattr("qgf_sim.live.conductor.ANSWER_TIMEOUT", 0.5)
    lost, call = [], Client.call_async

    def ask(client, request):
        answer = call(client, request)
        if client.srv_name in lost or not client.srv_name.endswith("/set_parameters_atomically"):
            return answer
        lost.append(client.srv_name)
        return Future()

    monkeypatch.setattr(Client, "call_async", ask)
    yield
    assert len(lost) == 2


@pytest.fixture(scope="module")
def in_process(tiny_bundle, short):
    """Episodes of both weights without ROS, one at a time."""
    return evaluate(EvaluationPlan(tiny_bundle, TASK, (0.0, 0.1), 2, RunOptions(seed=3), batch_size=1, record=True))


@pytest.mark.usefixtures("late_messages", "lost_answers")
def test_lockstep_episodes_over_ros_are_in_process_episodes_to_the_bit(tiny_bundle, in_process, children, temporary):
    display = Display()
    results = run_demo(EpisodePlan(tiny_bundle, TASK, (0.0, 0.1), 2, RunOptions(seed=3), record=True), display)
    for weight, episodes in results.items():
        same(episodes, in_process[weight])
        assert all(latency > 0.0 for episode in episodes for latency in episode.latencies)
        assert all(len(episode.latencies) <= episode.length for episode in episodes)
    assert not np.array_equal(in_process[0.0][0].commands, in_process[0.1][0].commands), "guidance changed nothing"
    assert np.isnan(results[0.0][0].mean_value)
    assert results[0.1][0].values
    assert in_order(results[0.1][0].values, in_process[0.1][0].values)
    assert not display.warnings
    assert not list(temporary.glob("qgf-demo-*"))


@pytest.mark.slow
def test_the_node_runs_each_weight_with_what_is_recommended_beside_it(tiny_bundle, in_process, tmp_path):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tuned")
    manifest = load_manifest(bundle)
    card = manifest.critics["task2"].model_copy(update={"recommended_settings": {"num_samples": 4}})
    update_manifest(bundle, manifest.model_copy(update={"critics": {**manifest.critics, "task2": card}}))
    run = {"task": 2, "guidance_weights": (0.0, 0.1), "episodes": 1, "options": RunOptions(seed=3), "record": True}
    ours = run_demo(EpisodePlan(bundle, **run, as_recommended=True), Display())
    same(ours[0.0], in_process[0.0][:1])
    options = RunOptions(seed=3, num_samples=4)
    same(ours[0.1], evaluate(EvaluationPlan(bundle, 2, (0.1,), 1, options, batch_size=1, record=True))[0.1])


OPTIONS = RunOptions(
    estimator="qgf_jacobian",
    max_gradient_norm=0.5,
    disagreement_scale=3.0,
    weight_schedule="linear",
    unguided_actions="dgripper",
)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(OPTIONS, id="every option"),
        pytest.param(RunOptions(estimator="grad_step", ascent_steps=3, ascent_sign=True), id="grad_step"),
        pytest.param(RunOptions(critic="task1", max_guidance_deviation=0.01, execution_horizon=1), id="of the tick"),
        *(
            pytest.param(RunOptions(estimator=name), id=name, marks=pytest.mark.slow)
            for name in ("qgf_jacobian", "qgf_chain", "noisy", "bptt")
        ),
    ],
)
def test_every_estimator_gives_the_same_bits_through_the_node(tiny_bundle, in_process, children, options):
    options = replace(options, seed=3, num_samples=2)
    run = {"task": TASK, "guidance_weights": (0.1,), "episodes": 1, "options": options, "record": True}
    ours = run_demo(EpisodePlan(tiny_bundle, **run), Display())
    reference = evaluate(EvaluationPlan(tiny_bundle, **run, batch_size=1))[0.1]
    same(ours[0.1], reference)
    assert not np.array_equal(reference[0].commands[0], in_process[0.1][0].commands[0])


@pytest.mark.slow
def test_a_shifted_episode_is_the_same_bits_through_the_node(tiny_bundle, children, monkeypatch):
    demo = sys.modules["qgf_sim.live.demo"]
    original, shift = demo._parameters, Shift(0.005, 1, 0.05, 1, 0.7, 1.5, 1.1)

    def shifted(plan, manifest):
        parameters = original(plan, manifest)
        return {**parameters, BRIDGE: {**parameters[BRIDGE], **shift.changed}}

    monkeypatch.setattr(demo, "_parameters", shifted)
    run = {"task": TASK, "guidance_weights": (0.1,), "episodes": 1, "options": RunOptions(seed=3), "record": True}
    (ours,) = run_demo(EpisodePlan(tiny_bundle, **run), Display())[0.1]
    (reference,) = evaluate(EvaluationPlan(tiny_bundle, **run, batch_size=1, shift=shift))[0.1]
    answered = reference.commands.any(axis=1)  # the others stood still, for want of an observation
    assert reference.waited == (~answered).sum() > 0
    assert np.isnan(ours.commands[~answered]).all()
    same([ours], [reference])


@pytest.mark.parametrize("victim", [NODE, pytest.param(BRIDGE, marks=pytest.mark.slow)])
def test_a_killed_process_is_started_again_and_the_episode_is_the_same(tiny_bundle, in_process, children, victim):
    def kill_once(text):
        step = re.search(r"\bstep (\d+),", text)  # not every one is shown
        if step and int(step[1]) >= 10 and len(children) == 2:
            (child,) = [child for child in children if child.name == victim]
            os.kill(child.pid, signal.SIGKILL)
            wait_until(lambda: child.exit_code is not None)

    display = Display(kill_once)
    results = run_demo(EpisodePlan(tiny_bundle, TASK, (0.1,), 1, RunOptions(seed=3), record=True), display)
    assert len(children) == 4, "both were started a second time"
    (warning,) = display.warnings
    assert f"{victim} ended with exit code -9" in warning
    same(results[0.1], in_process[0.1][:1])


def test_a_process_that_dies_twice_ends_the_demo_with_one_sentence(tiny_bundle, children, monkeypatch):
    monkeypatch.setitem(sys.modules["qgf_sim.live.demo"].MODULES, NODE, "qgf_ros.nodes.no_such_module")
    with pytest.raises(
        SimulationError, match=r"policy_node ended with exit code 1 .*no_such_module.*the logs are in"
    ) as raised:
        run_demo(EpisodePlan(tiny_bundle, TASK, (0.0,), episodes=1), display := Display())
    assert len(display.warnings) == 1
    folder = Path(re.search(r"logs are in (\S+)", str(raised.value))[1])
    assert "no_such_module" in (folder / f"{NODE}.log").read_text()


def test_a_bundle_the_node_refuses_is_reported_with_the_node_s_reason(tiny_bundle, children, monkeypatch, tmp_path):
    from qgf_sim.live import demo

    original = demo._parameters

    def broken(plan, manifest):
        return {**original(plan, manifest), NODE: {**original(plan, manifest)[NODE], "bundle": str(tmp_path)}}

    monkeypatch.setattr(demo, "_parameters", broken)
    with pytest.raises(SimulationError, match="policy_node failed: .*manifest"):
        run_demo(EpisodePlan(tiny_bundle, TASK, (0.0,), episodes=1), Display())


# As `qgf`, which starts the bridge of short_episodes.py.
WITH_SHORT_EPISODES = """
import sys
from qgf_ros.cli import main
from qgf_sim.live import demo
demo.MODULES[demo.BRIDGE] = "short_episodes"
sys.exit(main())
"""


# SIGTERM unwinds as Ctrl-C does: `test_sigterm_unwinds_like_an_exit`.
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_however_the_demo_ends_no_process_is_left_behind(tiny_bundle, tmp_path, temporary, number):
    report = tmp_path / "never.json"
    command = [sys.executable, "-c", WITH_SHORT_EPISODES, "demo", "--bundle", str(tiny_bundle), "--task", str(TASK)]
    command += ["--episodes", "50", "--guidance-weights", "0", "--json", str(report)]
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        line = next(line for line in demo.stdout if line.startswith("weight 0 seed 0"))
        assert "steps" in line
        found = children_of(demo.pid)
        assert len(found) == 2
        demo.send_signal(number)
        code = demo.wait(timeout=PATIENCE)
        rest = demo.stdout.read()
    finally:
        demo.kill()
        demo.stdout.close()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    assert "Traceback" not in rest
    wait_until(lambda: not [pid for pid in found if is_running(pid)])
    assert not report.exists()
    if number != signal.SIGKILL:
        assert not list(temporary.glob("qgf-demo-*"))


def children_of(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in tasks for word in path.read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_demo_command_writes_the_report_of_the_issue_and_exits_with_zero(tiny_bundle, tmp_path):
    report = tmp_path / "deep" / "demo.json"
    command = [sys.executable, "-m", "qgf_ros.cli", "demo", "--bundle", str(tiny_bundle), "--task", "1"]
    command += ["--episodes", "1", "--guidance-weights", "0,0.1", "--json", str(report), "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    record = json.loads(report.read_text())
    assert [run["guidance_weight"] for run in record["runs"]] == [0.0, 0.1]
    for run in record["runs"]:
        assert {"task", "episodes", "successes", "success_rate", "ci95", "mean_length", "latency_ms"} <= run.keys()
        assert (run["task"], run["episodes"], run["first_seed"]) == (1, 1, 5)
        assert run["latency_ms"]["p99"] >= run["latency_ms"]["p50"] > 0.0
    assert record["seed"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "at least 1"),
        ({"guidance_weights": ()}, "at least one"),
        ({"guidance_weights": (0.1, 0.1)}, "each must be there once"),
        ({"task": 4}, "no critic for task 4"),
    ],
)
def test_impossible_plans_start_nothing(tiny_bundle, change, message, monkeypatch):
    monkeypatch.setattr(Child, "__init__", lambda *a, **k: pytest.fail("a process was started"))
    values = {"task": TASK, "guidance_weights": (0.0,), "episodes": 1, **change}
    with pytest.raises(SimulationError, match=message):
        run_demo(EpisodePlan(tiny_bundle, **values), Display())


def test_a_child_is_stopped_with_everything_it_started(tmp_path, monkeypatch):
    (tmp_path / "stubborn.py").write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('child', subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(processes, "GRACE", 0.3)
    child = Child("stubborn", "stubborn", [], tmp_path)
    try:
        wait_until(lambda: len(child.last_words().split()) == 2)  # name and number are written one by one
        grandchild = int(child.last_words().split()[1])
        assert child.exit_code is None
    finally:
        stop_all([child])
    wait_until(lambda: not is_running(grandchild))
    assert not is_running(child.pid)


def test_a_worker_that_has_hardly_started_leaves_ctrl_c_to_its_parent():
    with worker_pool(1) as pool:
        number = pool.submit(os.getpid)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGINT)
        assert number.result(PATIENCE) == worker.pid


def test_a_child_finds_rclpy_although_the_mark_of_the_wheels_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    if "AMENT_PREFIX_PATH" not in os.environ:
        monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    (tmp_path / "probe.py").write_text("import rclpy; print('loaded')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    child = Child("probe", "probe", [], tmp_path)
    wait_until(lambda: child.exit_code is not None)
    stop_all([child])
    assert child.last_words() == "loaded"


def test_every_graph_has_a_domain_of_its_own_and_none_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "DOMAINS", range(228, 232))
    monkeypatch.setattr(processes, "_candidates", itertools.count())
    monkeypatch.setattr(processes, "_RECENT", 2)
    monkeypatch.setattr(processes, "_recent", deque())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 230 + 10))
        assert [private_graph(tmp_path)["ROS_DOMAIN_ID"] for _ in range(4)] == ["228", "229", "231", "228"]


def test_a_reserved_domain_is_given_to_no_other_process(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "DOMAINS", range(226, 228))
    monkeypatch.setattr(processes, "_reserved", [])
    mine = reserve_domain()
    script = "from qgf_sim import processes; processes.DOMAINS = range(226, 228); print(processes.free_domain())"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {mine, int(other.stdout)} == {226, 227}


def test_a_graph_with_every_domain_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "DOMAINS", range(230, 231))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 230 + 10))
        with pytest.raises(SimulationError, match="in use; end some ROS processes"):
            private_graph(tmp_path)


@pytest.mark.parametrize(("distribution", "expected"), [("humble", "1"), ("jazzy", None)])
def test_a_graph_stays_on_this_machine_on_humble_too(tmp_path, monkeypatch, distribution, expected):
    monkeypatch.setenv("ROS_DISTRO", distribution)
    assert private_graph(tmp_path).get("ROS_LOCALHOST_ONLY") == expected
