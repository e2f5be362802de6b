"""The goal of a task: OGBench's own, the same in process and over the bridge, and enough to tell a bundle what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="goals need the sim extra")

from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.control.run_options import BC, RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import Outcome
from qgf_ros.evaluation.trials import Trial, Trials, TrialStore
from qgf_ros.evaluation.tuning import Protocol, critics_of, tune, write_evidence
from qgf_ros.learning.data.dataset import Dataset
from qgf_ros.runtime.policy import Policy
from qgf_sim.bridge.recorded_world import RecordedWorld
from qgf_sim.rollouts.evaluate import EvaluationPlan, check_environment, evaluate
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.environment import TaskEnvironment
from qgf_sim.worlds.families import action_fields, observation_fields

pytestmark = pytest.mark.usefixtures("short")

NAME = "cube-single"


@pytest.fixture(scope="module")
def environment(short: None) -> Any:
    env = TaskEnvironment(NAME, 2)
    yield env
    env.close()


class Spy:
    """A policy that keeps what it is asked about."""

    def __init__(self, bundle: Path) -> None:
        self._policy = Policy.load(bundle)
        self.manifest = self._policy.manifest
        self.asked: list[np.ndarray] = []

    def act(self, observations: np.ndarray, *arguments: Any) -> Any:
        self.asked += list(observations)
        return self._policy.act(observations, *arguments)


def test_the_goal_of_an_episode_is_ogbench_s_observation_of_the_solved_task(environment: TaskEnvironment) -> None:
    environment.reset(3)
    goal = environment.goal
    assert goal.shape == environment.observation().shape
    # OGBench's observation: the cube's position from 19 on, moved and scaled.
    wanted = (environment.unwrapped.data.mocap_pos[0] - [0.425, 0.0, 0.0]) * 10.0
    np.testing.assert_allclose(goal[19:22], wanted, atol=0.05)
    environment.reset(4)
    assert not np.array_equal(environment.goal, goal), "the arm is somewhere else in another episode"
    environment.reset(3)
    assert environment.goal.tobytes() == goal.tobytes()


def test_a_policy_is_told_the_goal_of_its_own_episode(goal_bundle: Path, environment: TaskEnvironment) -> None:
    spy = Spy(goal_bundle)
    settings = RunOptions(0.1, "goal", execution_horizon=5)
    for seed in (3, 4):
        (_,) = run_batch(spy, [environment], settings, [seed])
        goals = np.array(spy.asked)[:, 28:]
        assert len(goals) > 1
        np.testing.assert_array_equal(goals, np.tile(environment.goal.astype(np.float32), (len(goals), 1)))
        spy.asked.clear()


def test_a_policy_is_told_no_more_than_its_goal_holds(object_goal_bundle: Path, environment: TaskEnvironment) -> None:
    spy = Spy(object_goal_bundle)
    (_,) = run_batch(spy, [environment], RunOptions(0.1, "goal", execution_horizon=5), [3])
    goals = np.array(spy.asked)[:, 28:]
    wanted = environment.unwrapped._cur_goal_ob[19:22]
    np.testing.assert_array_equal(goals, np.tile(wanted.astype(np.float32), (len(goals), 1)))
    manifest = load_manifest(object_goal_bundle)
    (field,) = (field for field in manifest.observation if field.name == manifest.goal)
    assert (field.topic, field.size) == ("object_goal", 3)


def test_a_bundle_whose_goals_hold_what_no_environment_tells_is_refused(object_goal_bundle: Path) -> None:
    manifest = load_manifest(object_goal_bundle)
    other = manifest.model_copy(update={"goal_fields": ("effector_position",)})
    with pytest.raises(SimulationError, match="does not have the observation contract of cube-single"):
        check_environment(other)


def test_one_bundle_serves_every_task(goal_bundle: Path) -> None:
    manifest = Policy.load(goal_bundle).manifest
    assert check_environment(manifest) == NAME
    plans = [EvaluationPlan(goal_bundle, task, (0.0,), 1, RunOptions(seed=5), record=True) for task in (1, 5)]
    assert [plan.options_at(manifest, 0.0).critic for plan in plans] == ["goal", "goal"]
    first, second = (evaluate(plan)[0.0][0].commands[0] for plan in plans)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_a_task_that_does_not_exist_is_refused_before_the_first_episode(
    goal_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    options = ["--trials", str(tmp_path / "trials.jsonl")] if command == "tune" else []
    assert main([command, str(goal_bundle), "--tasks", "1,9", *options]) == 2
    told = capsys.readouterr()
    assert "task 9 was given; " in told.err
    assert "seed" not in told.out
    assert not (tmp_path / "trials.jsonl").exists()


def test_the_one_critic_is_tuned_over_the_goals_of_every_task_or_of_those_that_are_named(
    goal_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(goal_bundle, tmp_path / "goals"))
    manifest = load_manifest(bundle)
    ran: list[Trial] = []

    def execute(trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in trials:
            ran.append(trial)
            yield trial, [Outcome(seed, trial.options.guidance_weight > 0.0, 100) for seed in trial.seeds]

    for tasks, goals in (((), (1, 2, 3, 4, 5)), ((4,), (4,))):
        ((critic, numbers),) = critics_of(manifest, tasks).items()
        assert (critic, numbers) == ("goal", goals)
        store = TrialStore(tmp_path / f"{len(goals)}.jsonl", manifest, "processes")
        run = Trials(bundle, numbers, 8, 16, store, execute)
        found = tune(manifest, critic, Protocol((0.1,), choosing_episodes=20, reporting_episodes=20), run)
        write_evidence(bundle, critic, found, tasks=numbers)
        assert {trial.task for trial in ran} == set(goals)
        reported = [
            seed
            for trial in ran
            if trial.options == replace(BC, critic=critic)
            for seed in trial.seeds
            if seed >= 20_000
        ]
        assert sorted(reported) == list(range(20_000, 20_020)), "a seed belongs to one task"
        card = load_manifest(bundle).critics[critic]
        assert card.recommended_weight == 0.1
        assert {evaluation.goals for evaluation in card.evaluations} == {goals}
        ran.clear()


@pytest.mark.parametrize("name", ["goal_bundle", pytest.param("object_goal_bundle", marks=pytest.mark.slow)])
def test_episodes_over_ros_get_their_goals_as_in_process_to_the_bit(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")
    from qgf_ros.evaluation.plan import EpisodePlan
    from qgf_sim.live.demo import run_demo

    class Display:
        def note(self, text: str) -> None: ...

        def warn(self, text: str) -> None:
            pytest.fail(text)

        def add(self, episode: Any) -> None: ...

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    bundle = request.getfixturevalue(name)
    run = {"task": 4, "guidance_weights": (0.1,), "episodes": 2, "options": RunOptions(seed=3), "record": True}
    ours = run_demo(EpisodePlan(bundle, **run), Display())[0.1]
    reference = evaluate(EvaluationPlan(bundle, **run, batch_size=1))[0.1]
    for one, other in zip(ours, reference, strict=True):
        assert (one.seed, one.success, one.length) == (other.seed, other.success, other.length)
        np.testing.assert_array_equal(one.commands, other.commands)


def test_a_recording_s_goal_is_what_it_came_to() -> None:
    observations = np.arange(10 * 28, dtype=np.float32).reshape(10, 28)
    terminals = np.isin(np.arange(10), [3, 9])
    world = RecordedWorld(
        Dataset(observations, np.zeros((10, 5), np.float32), terminals, {}), observation_fields(NAME), action_fields()
    )
    for episode, last in enumerate((3, 9)):
        world.start(1, episode)
        assert world.goal.tolist() == observations[last].tolist()
