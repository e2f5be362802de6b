"""Tuning on a running graph: a real policy node and the bridge over DDS, and a stand-in for whoever watches a robot."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from qgf_ros.bundle.own_graphs import usual_weights
from qgf_ros.bundle.store import load_manifest
from qgf_ros.commands.show.interruptions import interruptions
from qgf_ros.control.run_options import BC as PLAIN
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_ros.evaluation.trials import Execute, Trial, fingerprint, outcome_of
from qgf_ros.nodes.messages import from_time
from qgf_sim.live import demo, live_tuning
from qgf_sim.live.live_tuning import TUNED, running_graph
from qgf_sim.live.referees import ServiceReferee
from qgf_sim.live.ros_client import RosClient
from qgf_sim.processes import Child, environment, private_graph, stop_all
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate

TASK = 2
PATIENCE = 240.0  # [s], for a machine that is busy with something else
BC = replace(PLAIN, critic="task2")
GUIDED = RunOptions(0.1, "task2", num_samples=2, estimator="noisy", weight_schedule="linear")


def trial(bundle: Path, options: RunOptions, seed: int, task: int | None = TASK) -> Trial:
    return Trial(bundle, fingerprint(load_manifest(bundle)), task, options, (seed,))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes are waited for as long as a busy machine needs to start them."""
    monkeypatch.setattr("qgf_sim.live.ros_client.DISCOVERY_TIMEOUT", PATIENCE)


@pytest.fixture(scope="module")
def processes(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Child]]:
    """A policy node and the bridge, as `qgf demo` starts them."""
    folder = tmp_path_factory.mktemp("graph")
    plan = EpisodePlan(tiny_bundle, TASK, (0.0,), 1)
    children: list[Child] = []
    with environment(private_graph(folder)):
        try:
            children.extend(demo._start(demo._parameters(plan, load_manifest(tiny_bundle)), folder))
            yield children
        finally:
            stop_all(children)


@pytest.fixture
def onlooker(processes: list[Child]) -> Iterator[RosClient]:
    """Another node, which looks at the parameters."""
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    graph = RosClient("onlooker", context)
    yield graph
    graph.close()
    context.try_shutdown()


@pytest.fixture
def unchanged(onlooker: RosClient) -> Iterator[None]:
    """Whatever happens meanwhile, both nodes have the parameters that they had before."""

    def look() -> list[Any]:
        return [onlooker.get(demo.NODE, TUNED), onlooker.get(demo.BRIDGE, ("task", "seed", "auto_reset"))]

    onlooker.set(demo.NODE, {"use_recommended_weight": True, "num_samples": 3})
    before = look()
    yield
    assert look() == before


@pytest.fixture
def on_the_graph(tiny_bundle: Path) -> Callable[..., Any]:
    """Tunes the bundle that the node runs."""

    @contextmanager
    def start(outcomes: Any, said: list[str], between: Callable[[], None] = lambda: None) -> Iterator[Execute]:
        manifest = load_manifest(tiny_bundle)
        with running_graph(manifest, demo.NODE, outcomes, demo.BRIDGE, said.append, between) as (execute, *_):
            yield execute

    return start


@pytest.mark.usefixtures("unchanged")
def test_a_trial_on_the_graph_is_the_same_episode_as_in_process(
    tiny_bundle: Path, on_the_graph: Callable[..., Any]
) -> None:
    work = [trial(tiny_bundle, name, 3) for name in (BC, GUIDED)]
    said: list[str] = []
    with on_the_graph("bridge", said) as execute:
        found = dict(execute(work))
    for name in (BC, GUIDED):
        plan = EvaluationPlan(tiny_bundle, TASK, (name.guidance_weight,), 1, replace(name, seed=3), batch_size=1)
        (episode,) = evaluate(plan)[name.guidance_weight]
        assert found[trial(tiny_bundle, name, 3)] == [outcome_of(episode)]
    assert not said


@pytest.mark.usefixtures("unchanged")
def test_ctrl_c_within_an_episode_puts_everything_back(
    tiny_bundle: Path, onlooker: RosClient, on_the_graph: Callable[..., Any]
) -> None:
    def interrupt() -> None:
        if onlooker.get(demo.NODE, ("num_samples",))["num_samples"].integer_value == GUIDED.num_samples:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), on_the_graph("bridge", [], interrupt) as execute:
        list(execute([trial(tiny_bundle, GUIDED, 0)]))


@pytest.mark.usefixtures("unchanged")
def test_what_a_node_refuses_ends_the_tuning_with_its_reason(
    tiny_bundle: Path, on_the_graph: Callable[..., Any]
) -> None:
    with pytest.raises(SimulationError, match="policy_node refused its parameters: .*estimator 'best'"):
        with on_the_graph("bridge", []) as execute:
            list(execute([trial(tiny_bundle, replace(GUIDED, estimator="best"), 0)]))


@pytest.mark.usefixtures("unchanged")
def test_no_further_signal_disturbs_the_putting_back(
    tiny_bundle: Path, on_the_graph: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[str] = []
    set_parameters = RosClient.set

    def interrupted_set(graph: RosClient, name: str, values: Any) -> None:
        changed.append(name)
        signal.raise_signal(signal.SIGINT)  # and again while the parameters are put back
        set_parameters(graph, name, values)

    with interruptions(patient=True) as asked, on_the_graph("bridge", [], asked.grant) as execute:
        monkeypatch.setattr(RosClient, "set", interrupted_set)
        with pytest.raises(KeyboardInterrupt):
            list(execute([trial(tiny_bundle, GUIDED, 0)]))
    assert changed == [demo.NODE, demo.NODE, demo.BRIDGE]


class Operator(threading.Thread):
    """Sets the scene up, watches for some steps and says that guided episodes are solved."""

    def __init__(self, episodes: int, held: threading.Event) -> None:
        super().__init__()
        self.episodes = episodes
        self.held = held
        self.weights: list[float] = []
        self.refusals: list[str] = []
        self.observations: list[int] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        context = Context()
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        graph = RosClient("operator", context)
        graph.node.create_subscription(JointState, "joint_states", self._on_observation, 1000)
        try:
            for _ in range(self.episodes):
                self._watch(graph)
        except BaseException as error:
            self.error = error
        graph.close()
        context.try_shutdown()

    def complain(self) -> None:
        """Raise what went wrong in the thread."""
        if self.error is not None:
            raise self.error

    def _watch(self, graph: RosClient) -> None:
        self.refusals.append(self._report(graph, True))
        first = self._set_up(graph)
        graph.call(Trigger, "qgf_tune/start", Trigger.Request())
        graph.until(lambda: self._steps_since(first) >= 5, PATIENCE, "the robot did not move")
        self.weights.append(graph.get(demo.NODE, ("guidance_weight",))["guidance_weight"].double_value)
        self._report(graph, self.weights[-1] > 0.0)

    def _set_up(self, graph: RosClient) -> int:
        """Reset the scene, which the robot leaves alone; return the stamp of the first observation."""
        assert self.held.wait(PATIENCE)  # the outcome is noted before the hold is out
        answer = graph.call(Trigger, f"{demo.BRIDGE}/reset", Trigger.Request())
        first = int(answer.message.split()[-2])
        # An active node would answer the first one; the bridge repeats it as long as nobody does.
        graph.until(
            lambda: self.observations.count(first) >= 3 or self._steps_since(first) > 0,
            PATIENCE,
            "nothing was observed",
        )
        assert not self._steps_since(first), "the robot was not held"
        return first

    def _steps_since(self, first: int) -> int:
        return len({stamp for stamp in self.observations if stamp > first})

    def _on_observation(self, message: JointState) -> None:
        self.observations.append(from_time(message.header.stamp))

    def _report(self, graph: RosClient, success: bool) -> str:
        return str(graph.call(SetBool, "qgf_tune/outcome", SetBool.Request(data=success)).message)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set from the answer to a hold to the next resume."""
    event, call = threading.Event(), RosClient.call

    def noting(graph: RosClient, kind: Any, name: str, request: Any) -> Any:
        if name == f"{demo.NODE}/resume":
            event.clear()
        answer = call(graph, kind, name, request)
        if name == f"{demo.NODE}/hold":
            event.set()
        return answer

    monkeypatch.setattr(RosClient, "call", noting)
    return event


@pytest.mark.usefixtures("unchanged")
def test_a_robot_is_judged_by_a_service_and_holds_between_episodes(
    tiny_bundle: Path, onlooker: RosClient, on_the_graph: Callable[..., Any], held: threading.Event
) -> None:
    operator = Operator(4, held)
    said: list[str] = []
    work = [trial(tiny_bundle, name, number, None) for number in (0, 1) for name in (BC, GUIDED)]
    with on_the_graph("service", said, operator.complain) as execute:
        operator.start()
        found = dict(execute(work))
    operator.join()
    operator.complain()
    assert {trial.options: outcomes[0].success for trial, outcomes in found.items()} == {BC: False, GUIDED: True}
    assert sorted(operator.weights) == [0.0, 0.0, 0.1, 0.1]
    assert all(outcomes[0].length >= 5 for outcomes in found.values())
    assert set(operator.refusals) == {"no episode is under way; call ~/start when the scene is set up"}
    assert said == ["between episodes policy_node holds; in the end, too, until ~/resume"]
    answer = onlooker.call(Trigger, f"{demo.NODE}/resume", Trigger.Request())
    assert answer.message == "observations are answered again", "the robot was not left holding"


@pytest.mark.usefixtures("unchanged")
def test_a_resume_that_ctrl_c_left_unanswered_does_not_outlast_the_tuning(
    tiny_bundle: Path, onlooker: RosClient, on_the_graph: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, asked = RosClient.call, []

    def overtaking(graph: RosClient, kind: Any, name: str, request: Any) -> Any:
        asked.append(name.rpartition("/")[2])
        if asked[-1] == "resume":
            raise KeyboardInterrupt
        answer = call(graph, kind, name, request)
        if asked[-2:] == ["resume", "hold"]:  # the node serves the hold first
            assert call(graph, Trigger, f"{demo.NODE}/resume", Trigger.Request()).success
        return answer

    monkeypatch.setattr(ServiceReferee, "prepare", lambda referee: None)
    monkeypatch.setattr(RosClient, "call", overtaking)
    with pytest.raises(KeyboardInterrupt), on_the_graph("service", []) as execute:
        list(execute([trial(tiny_bundle, GUIDED, 0, None)]))
    monkeypatch.setattr(RosClient, "call", call)
    assert "resume" in asked
    answer = onlooker.call(Trigger, f"{demo.NODE}/resume", Trigger.Request())
    assert answer.message == "observations are answered again", "the robot was not left holding"


@pytest.mark.usefixtures("unchanged")
def test_a_robot_that_gets_no_commands_is_not_tuned(onlooker: RosClient, on_the_graph: Callable[..., Any]) -> None:
    onlooker.set(demo.NODE, {"enable_motion": False})
    try:
        with pytest.raises(SimulationError, match="enable_motion of policy_node is false"), on_the_graph("service", []):
            pass
    finally:
        onlooker.set(demo.NODE, {"enable_motion": True})


@pytest.mark.usefixtures("processes")
def test_a_node_that_is_not_there_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgf_sim.live.ros_client.DISCOVERY_TIMEOUT", 1.0)
    with pytest.raises(SimulationError, match="there is no service other/get_parameters; start other"):
        with running_graph(load_manifest(tiny_bundle), "other", "bridge", demo.BRIDGE, print, lambda: None):
            pass


@pytest.mark.usefixtures("unchanged")
def test_a_node_that_runs_another_bundle_is_not_tuned(tiny_bundle: Path) -> None:
    other = load_manifest(tiny_bundle).model_copy(update={"name": "other", "denoising_steps": 3})
    with pytest.raises(SimulationError, match="policy_node runs bundle '.*tiny', which is not the other to be tuned"):
        with running_graph(other, demo.NODE, "bridge", demo.BRIDGE, print, lambda: None):
            pass


@pytest.mark.usefixtures("unchanged")
def test_a_weight_that_the_node_would_refuse_is_said_before_anything_is_tried(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)

    def tried(largest: float) -> None:
        with running_graph(manifest, demo.NODE, "bridge", demo.BRIDGE, print, lambda: None, largest):
            pass

    tried(max(usual_weights(manifest)))
    with pytest.raises(SimulationError, match="guidance weight 99 is to be tried, and policy_node takes at most"):
        tried(99.0)


@pytest.mark.usefixtures("unchanged")
def test_a_bundle_that_only_the_node_can_read_is_not_tuned(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise BundleError(f"bundle {name} was given")

    monkeypatch.setattr(live_tuning, "locate_bundle", missing)
    with pytest.raises(SimulationError, match="which cannot be read on this machine; copy it to the same path here"):
        with running_graph(load_manifest(tiny_bundle), demo.NODE, "bridge", demo.BRIDGE, print, lambda: None):
            pass


@pytest.mark.slow
@pytest.mark.usefixtures("unchanged")
def test_what_no_trial_sets_is_among_the_conditions(tiny_bundle: Path, onlooker: RosClient) -> None:
    def conditions() -> tuple[str, RunOptions]:
        graph = running_graph(load_manifest(tiny_bundle), demo.NODE, "bridge", demo.BRIDGE, print, lambda: None)
        with graph as (_, found, given):
            return found, given

    before, given = conditions()
    assert given == PLAIN
    assert conditions() == (before, PLAIN)
    for name, key, other, with_the_weight in (
        (demo.NODE, "max_guidance_deviation", 0.5, {"max_guidance_deviation": 0.5}),
        (demo.NODE, "guidance_weight_slew", 0.5, {}),
        (demo.BRIDGE, "action_delay", 1, {}),
        (demo.BRIDGE, "keyframe", "home", {}),
    ):
        found = onlooker.get(name, (key,))
        onlooker.set(name, {key: other})
        now, given = conditions()
        assert now != before
        assert given == replace(PLAIN, **with_the_weight), "which the weight is recommended with"
        onlooker.set(name, found)
    onlooker.set(demo.NODE, {"seed": 7, "num_samples": 2})
    assert conditions() == (before, PLAIN)
    onlooker.set(demo.NODE, {"seed": 0, "num_samples": 3})
