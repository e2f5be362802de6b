"""In-process episodes: the controller's own ticks, the same whatever runs beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")

from short_episodes import short_episodes

from qgf_ros.bundle.fields import ActionField
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError, SimulationError
from qgf_ros.evaluation.plan import EpisodePlan, with_settings
from qgf_ros.evaluation.results import commanded_jerk, critic_for_task, default_weights, summarise
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.rollouts.rollout import run_batch
from qgf_sim.worlds.environment import TaskEnvironment

TASK = 2


@pytest.fixture(scope="module")
def environments():
    with short_episodes():
        made = [TaskEnvironment("cube-single", TASK) for _ in range(3)]
    yield made
    for env in made:
        env.close()


def settings(weight=0.1, **changes):
    return RunOptions(weight, "task2", **{"execution_horizon": 2, **changes})


def ticked_by_hand(policy, env, seed, chosen):
    """The loop of the node, written out."""
    controller = Controller(policy, chosen)
    controller.reset(seed)
    assembler = ObservationAssembler(policy.manifest.observation, 0.05)
    readings, stamp, commands, done = env.reset(seed), 10**18, [], False
    while not done:
        for topic, reading in readings.items():
            assembler.update(topic, stamp, reading)
        commands.append(controller.tick(assembler.assemble(stamp)).values)
        step = env.step(commands[-1])
        readings, done = step.readings, step.done
        stamp += 50_000_000
    return np.array(commands), step.success


def test_batch_of_one_is_the_controller_s_tick_to_the_bit(tiny_policy, environments):
    (episode,) = run_batch(tiny_policy, environments[:1], settings(), [11], record=True)
    commands, success = ticked_by_hand(tiny_policy, environments[1], 11, settings())
    assert np.array_equal(episode.commands, commands)
    assert (episode.success, episode.length) == (success, len(commands))
    assert len(episode.latencies) == -(-episode.length // 2), "one inference per executed chunk of 2"


def test_first_commands_of_a_batch_differ_by_rounding_alone(tiny_policy, environments):
    together = {e.seed: e for e in run_batch(tiny_policy, environments, settings(), [1, 2, 3], record=True)}
    assert sorted(together) == [1, 2, 3]
    for seed, episode in together.items():
        (alone,) = run_batch(tiny_policy, environments[:1], settings(), [seed], record=True)
        np.testing.assert_allclose(episode.commands[:2], alone.commands[:2], atol=1e-5)
    assert not np.allclose(together[1].commands[0], together[2].commands[0]), "each seed has its own noise"


def test_every_weight_starts_from_the_same_scene_and_the_same_noise(tiny_policy, environments):
    seen = {}

    class Spy:
        manifest = tiny_policy.manifest

        def act(self, observations, noise, critic, weight, guidance):
            seen.setdefault(weight, (observations.copy(), noise.copy()))
            return tiny_policy.act(observations, noise, critic, weight, guidance)

    for weight in (0.0, 0.3):
        list(run_batch(Spy(), environments[:2], settings(weight), [5, 6]))
    for plain, guided in zip(seen[0.0], seen[0.3], strict=True):
        assert np.array_equal(plain, guided)


def test_a_failing_critic_ends_the_evaluation(tiny_policy, environments):
    class Failing:
        manifest = tiny_policy.manifest

        def act(self, *arguments):
            chunks = tiny_policy.act(*arguments)
            return [replace(chunk, telemetry={**chunk.telemetry, "critic_failed": 1.0}) for chunk in chunks]

    with pytest.raises(GuidanceError, match="critic task2 failed"):
        list(run_batch(Failing(), environments[:1], settings(), [0]))


def test_asynchronous_without_a_delay_is_synchronous_to_the_bit(tiny_policy, environments):
    synchronous, asynchronous = (
        next(run_batch(tiny_policy, environments[:1], settings(execution=execution), [11], record=True))
        for execution in ("synchronous", "asynchronous")
    )
    assert np.array_equal(synchronous.commands, asynchronous.commands)
    assert synchronous.waited == asynchronous.waited == 0


def test_synchronous_execution_stands_still_while_it_infers_and_skips_nothing(tiny_policy, environments):
    (late,) = run_batch(tiny_policy, environments[:1], settings(), [11], delay=3, record=True)
    (prompt,) = run_batch(tiny_policy, environments[:1], settings(), [11], record=True)
    still = (late.commands == 0.0).all(axis=1)
    assert still[:10].tolist() == [True] * 3 + [False] * 2 + [True] * 3 + [False] * 2
    assert late.waited == still.sum()
    np.testing.assert_array_equal(late.commands[3:5], prompt.commands[:2])


@pytest.mark.parametrize("seam", ["switch", "linear", "ensemble", "rtc"])
def test_asynchronous_execution_goes_on_while_it_infers(tiny_policy, environments, seam):
    chosen = settings(execution="asynchronous", seam=seam)
    episodes = list(run_batch(tiny_policy, environments[:2], chosen, [11, 12], delay=2))
    assert [episode.waited for episode in episodes] == [2, 2], "for the first chunk alone"
    assert all(np.isfinite(episode.jerk) and episode.jerk > 0.0 for episode in episodes)


def test_jerk_is_the_third_difference_of_the_commanded_place():
    displaced, placed = (
        ActionField(name="x", unit="m", scale=2.0, lower=-9, upper=9, hold=hold) for hold in (0.0, None)
    )
    cubic = np.arange(6.0)[:, None] ** 3  # whose third difference is 6
    assert commanded_jerk(cubic, [placed]) == pytest.approx(6.0 / 2.0)
    assert commanded_jerk(np.diff(cubic, axis=0), [displaced]) == pytest.approx(6.0 / 2.0)
    assert commanded_jerk(np.ones((6, 1)), [displaced]) == 0.0, "an even motion"
    both = commanded_jerk(np.hstack([cubic[1:], np.diff(cubic, axis=0)]), [placed, displaced])
    assert both == pytest.approx(6.0 / 2.0)
    assert np.isnan(commanded_jerk(np.ones((3, 1)), [displaced]))


def test_an_environment_begins_the_next_episode_as_soon_as_one_ends(tiny_policy, environments):
    rows = []

    class Counted:
        manifest = tiny_policy.manifest

        def act(self, observations, *arguments):
            rows.append(len(observations))
            return tiny_policy.act(observations, *arguments)

    class Short:
        """Ends each episode early, at a step that the seed decides."""

        def __init__(self, env):
            self._env = env

        def reset(self, seed):
            self._left = 2 + 4 * seed
            return self._env.reset(seed)

        def step(self, command):
            self._left -= 1
            return replace(self._env.step(command), done=self._left == 0)

    pair = [Short(env) for env in environments[:2]]
    episodes = list(run_batch(Counted(), pair, settings(execution_horizon=1), range(5), record=True))
    assert [(episode.seed, episode.length) for episode in episodes] == [(0, 2), (1, 6), (2, 10), (3, 14), (4, 18)]
    assert rows == [2] * 20 + [1] * 10, "2, 6, 10, 14 and 18 steps in two environments"
    for episode in episodes:
        (alone,) = run_batch(tiny_policy, pair[:1], settings(execution_horizon=1), [episode.seed], record=True)
        np.testing.assert_allclose(episode.commands[0], alone.commands[0], atol=1e-5)


def test_an_episode_needs_an_environment(tiny_policy):
    with pytest.raises(SimulationError, match="no environment was given"):
        list(run_batch(tiny_policy, [], settings(), [0]))


@pytest.mark.slow
def test_outcome_does_not_depend_on_the_number_of_workers(tiny_bundle):
    plan = EvaluationPlan(tiny_bundle, TASK, (0.0, 0.1), 6, RunOptions(seed=40), batch_size=2, record=True)
    alone, spread = evaluate(plan), evaluate(replace(plan, workers=2))
    for weight in plan.guidance_weights:
        assert [e.seed for e in alone[weight]] == [40, 41, 42, 43, 44, 45]
        for a, b in zip(alone[weight], spread[weight], strict=True):
            assert (a.seed, a.success, a.length) == (b.seed, b.success, b.length)
            assert np.array_equal(a.commands, b.commands)


@pytest.mark.slow
def test_ctrl_c_ends_an_evaluation_with_its_workers(tiny_bundle):
    command = [sys.executable, "-m", "qgf_ros.cli", "evaluate", str(tiny_bundle), "--workers", "2"]
    command += ["--episodes", "1000", "--batch-size", "1", "--guidance-weights", "0"]
    group = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert any(line.startswith("weight 0 seed") for line in group.stdout)
        os.killpg(group.pid, signal.SIGINT)
        _, error = group.communicate(timeout=60)
        assert group.returncode == 130
        assert "Traceback" not in error
        deadline = time.monotonic() + 30
        while lives(group.pid):
            assert time.monotonic() < deadline, "a worker is left"
            time.sleep(0.05)
    finally:
        if lives(group.pid):
            os.killpg(group.pid, signal.SIGKILL)


def lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 3}, "no critic for task 3; it has task1 .task 1., task2 .task 2."),
        ({"options": RunOptions(critic="nobody")}, "critic 'nobody' was given; bundle tiny has task1, task2"),
        ({"guidance_weights": ()}, "no guidance weight"),
        ({"guidance_weights": (0.1, 0.1)}, "each must be there once"),
        ({"guidance_weights": (-1.0,)}, "guidance_weight -1.0"),
        ({"guidance_weights": (0.1, float("nan"))}, "guidance_weight nan was given; it must be finite"),
        ({"episodes": 0}, "episodes 0 was given"),
        ({"batch_size": 0}, "batch-size 0 was given"),
        ({"workers": 0}, "workers 0 was given"),
        ({"options": RunOptions(execution_horizon=9)}, "execution_horizon 9 was given; it must be 1 to 5"),
    ],
)
def test_impossible_plans_are_refused_before_anything_runs(tiny_bundle, change, message):
    plan = replace(EvaluationPlan(tiny_bundle, TASK, (0.0,), episodes=1), **change)
    with pytest.raises((SimulationError, GuidanceError), match=message):
        evaluate(plan)


def test_a_bundle_of_another_contract_is_refused(tiny_bundle):
    manifest = load_manifest(tiny_bundle)
    shuffled = manifest.model_copy(update={"observation": manifest.observation[::-1]})
    with pytest.raises(SimulationError, match="does not have the observation contract of cube-single"):
        EvaluationPlan(tiny_bundle, TASK, (0.0,), episodes=1).check(shuffled)


def test_weights_default_to_plain_and_recommended(tiny_bundle):
    manifest = load_manifest(tiny_bundle)
    assert critic_for_task(manifest, 2) == "task2"
    assert default_weights(manifest, 2, RunOptions()) == (0.0, 0.1)


def recommending(bundle, weight=0.1, **settings):
    manifest = load_manifest(bundle)
    update = {"recommended_weight": weight, "recommended_settings": settings}
    card = manifest.critics["task2"].model_copy(update=update)
    return manifest.model_copy(update={"critics": {**manifest.critics, "task2": card}})


def test_a_weight_found_with_other_settings_is_no_default(tiny_bundle):
    manifest = recommending(tiny_bundle, num_samples=4, estimator="noisy")
    with pytest.raises(GuidanceError, match="weight was found with num_samples 4; set that too, or give a weight"):
        default_weights(manifest, 2, RunOptions(num_samples=2))
    assert default_weights(manifest, 2, RunOptions(num_samples=4, estimator="noisy")) == (0.0, 0.1)
    assert default_weights(manifest, 2, RunOptions(critic="task1")) == (0.0, 0.1)


def test_the_recommended_weight_is_run_as_it_is_recommended_beside_plain_behaviour_cloning(tiny_bundle):
    manifest = recommending(tiny_bundle, num_samples=4, estimator="noisy")
    weights = default_weights(manifest, 2, RunOptions())
    assert weights == (0.0, 0.1)
    plan = EpisodePlan(tiny_bundle, 2, weights, 1, as_recommended=True)
    plain, recommended = (plan.options_at(manifest, weight) for weight in weights)
    assert (plain.num_samples, plain.estimator, plain.guidance_weight) == (1, "qgf", 0.0)
    assert (recommended.num_samples, recommended.estimator, recommended.guidance_weight) == (4, "noisy", 0.1)
    assert plan.settings_at(manifest, 0.0) == {"num_samples": 1, "estimator": "qgf"}
    records = with_settings([{"guidance_weight": weight} for weight in weights], plan, manifest)
    assert records[1] == {"guidance_weight": 0.1, "settings": {"num_samples": 4, "estimator": "noisy"}}
    assert plan.announcement(manifest) == "task 2: weight 0.1 is recommended with num_samples 4, estimator noisy"
    given = replace(plan, as_recommended=False)
    assert given.options_at(manifest, 0.1).num_samples == 1, "a weight that is given comes alone"
    assert (given.settings_at(manifest, 0.1), given.announcement(manifest)) == ({}, "")


def test_the_best_of_many_without_guidance_may_be_what_is_recommended(tiny_bundle):
    manifest = recommending(tiny_bundle, 0.0, num_samples=32)
    plan = EpisodePlan(tiny_bundle, 2, default_weights(manifest, 2, RunOptions()), 1, as_recommended=True)
    (weight,) = plan.guidance_weights
    assert (weight, plan.options_at(manifest, weight).num_samples) == (0.0, 32)
    parts = plan.beside_plain(manifest)
    assert [part.options_at(manifest, 0.0).num_samples for part in parts] == [1, 32], (
        "and plain behaviour cloning first"
    )
    assert replace(plan, as_recommended=False).beside_plain(manifest) == (replace(plan, as_recommended=False),)


def test_a_setting_that_meant_nothing_does_not_keep_a_weight_from_being_the_default(tiny_bundle):
    manifest = load_manifest(tiny_bundle)
    card = manifest.critics["task2"].model_copy(update={"recommended_settings": {"blend_steps": 5}})
    manifest = manifest.model_copy(update={"critics": {**manifest.critics, "task2": card}})
    assert default_weights(manifest, 2, RunOptions(seam="switch")) == (0.0, 0.1)


def test_summary_counts_and_bounds(tiny_policy, environments):
    episodes = list(run_batch(tiny_policy, environments[:2], settings(0.0), [7, 8]))
    record = summarise(0.0, TASK, episodes)
    assert record["episodes"] == 2
    assert record["ci95"][0] <= record["success_rate"] <= record["ci95"][1]
    assert record["mean_length"] == np.mean([e.length for e in episodes])
    assert 0.0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p99"]
    assert sorted(record["outcomes"]["seed"]) == [7, 8]
