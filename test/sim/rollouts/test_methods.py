"""The comparison of all methods: settings chosen apart from the report, seeds shared, no trial twice, nothing mixed up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="closed-loop runs need the sim extra")

from qgf_ros.bundle.own_graphs import DIFFERENCE_WEIGHTS
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.bundle_families import TrainedBundle, trained_bundles
from qgf_ros.evaluation.halving import Outcome, most_episodes, rung_sizes
from qgf_ros.evaluation.trials import Execute, Trial
from qgf_ros.guidance.names import METHODS as ESTIMATORS
from qgf_sim.rollouts.method_trials import open_store, run_bundle
from qgf_sim.rollouts.methods import (
    FIRST_SEED_ONLY,
    METHODS,
    WEIGHTS,
    Method,
    MethodComparison,
    method_of_row,
    methods_named,
    with_weights,
)
from qgf_sim.rollouts.trial_pools import local_processes, ray_cluster

BEST = {"qgf": 0.03, "noisy": 0.3, "grad_step": 0.1}


class Episodes:
    """Runs trials whose best weight is known, in which seeds alternate in difficulty, and may be interrupted after some."""

    def __init__(self, most: int = 10**9) -> None:
        self.ran: list[Trial] = []
        self.most = most

    def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
        for trial in trials:
            if len(self.ran) == self.most:
                raise KeyboardInterrupt
            self.ran.append(trial)
            options = trial.options
            right = options.guidance_weight == BEST.get(options.estimator)
            solved = [right or (options.num_samples == 4 and seed % 2 == 0) or seed % 16 == 3 for seed in trial.seeds]
            yield trial, [Outcome(seed, won, 100, -3.0) for seed, won in zip(trial.seeds, solved)]


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedBundle, ...]:
    """Two training seeds of one recipe; only their manifests differ."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (0, 1):
        path = Path(shutil.copytree(tiny_bundle, folder / f"tiny-{seed}"))
        changed = {"name": f"tiny-{seed}", "training": {"config": {"seed": seed}}}
        update_manifest(path, load_manifest(path).model_copy(update=changed))
    first = trained_bundles([folder / "tiny-0"])[0]
    second = trained_bundles([f"cube-single:1={folder / 'tiny-1'}"])[0]
    return first, second


@pytest.fixture
def comparison(bundles: tuple[TrainedBundle, ...]) -> MethodComparison:
    chosen = methods_named("bc,bfn4,qgf,grad_step")
    return MethodComparison(bundles, (1, 2), chosen, choosing_episodes=32, episodes=20)


def run(comparison: MethodComparison, path: Path, execute: Execute) -> list[dict[str, Any]]:
    """Return the records of all bundles."""
    return [
        record
        for bundle in comparison.bundles_in_turn()
        for record in run_bundle(comparison, bundle, open_store(path, bundle), execute)
    ]


def test_each_setting_is_chosen_on_other_seeds_than_it_is_reported_on(
    comparison: MethodComparison, tmp_path: Path
) -> None:
    episodes = Episodes()
    records = run(comparison, tmp_path / "trials.jsonl", episodes)
    assert [(r["training_seed"], r["task"], r["method"]) for r in records] == [
        (seed, task, name)
        for seed, names in ((0, ("bc", "bfn4", "qgf", "grad_step")), (1, ("bc", "bfn4", "qgf")))
        for task in (1, 2)
        for name in names
    ]
    for record in records:
        reporting = record["reporting"]
        assert record["weight"] == {"qgf": 0.03, "grad_step": 0.1}.get(record["method"], 0.0)
        assert (reporting["first_seed"], reporting["last_seed"]) == (20_000, 20_019)
        assert len(reporting["outcomes"]["success"]) == reporting["episodes"] == 20
        tried = [run["guidance_weight"] for run in record["choosing"]]
        assert tried == (record["weights"] if len(record["weights"]) > 1 else [])
        assert all(run["first_seed"] == 10_000 and run["last_seed"] <= 10_031 for run in record["choosing"])
    for trial in episodes.ran:
        chosen = set(trial.seeds) <= set(range(10_000, 10_032))
        assert chosen or set(trial.seeds) <= set(range(20_000, 20_020))
        assert chosen is False or len(METHODS[_name(trial)].weights) > 1


def _name(trial: Trial) -> str:
    options = trial.options
    if not options.guidance_weight:
        return "bc" if options.num_samples == 1 else f"bfn{options.num_samples}"
    return options.estimator if options.num_samples == 1 else f"{options.estimator}_bfn{options.num_samples}"


def test_what_led_after_fewer_choosing_episodes_is_reported_too(comparison: MethodComparison, tmp_path: Path) -> None:
    class Slow(Episodes):
        """Weight 1 looks best on the first 8 seeds."""

        def __call__(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, list[Outcome]]]:
            for trial, outcomes in super().__call__(trials):
                early = trial.options.guidance_weight == 1.0 and trial.seeds[0] < 10_008
                yield trial, [replace(one, success=True, length=50) if early else one for one in outcomes]

    only = replace(comparison, tasks=(1,), methods=methods_named("qgf"), bundles=comparison.bundles[:1])
    (record,) = run(only, tmp_path / "a.jsonl", Slow())
    assert record["weight"] == 0.03
    assert [(one["choosing_episodes"], one["weight"]) for one in record["early"]] == [(8, 1.0), (16, 0.03), (32, 0.03)]
    assert [one["episodes_spent"] for one in record["early"]] == [48, 72, 104]
    assert record["early"][0]["success"] == [seed % 16 == 3 for seed in range(20_000, 20_020)]
    assert record["early"][1]["success"] is None  # those of the final choice are not there twice
    (without,) = run(replace(only, early_choices=False), tmp_path / "b.jsonl", Slow())
    assert without["early"][0]["success"] is None
    assert without["reporting"] == record["reporting"]


@pytest.mark.parametrize("most", [0, 1, 7, 23, 40])
def test_after_an_interruption_no_trial_runs_twice_and_the_end_is_the_same(
    comparison: MethodComparison, tmp_path: Path, most: int
) -> None:
    path = tmp_path / "trials.jsonl"
    first, rest, whole, again = Episodes(most), Episodes(), Episodes(), Episodes()
    with pytest.raises(KeyboardInterrupt):
        run(comparison, path, first)
    with path.open("ab") as file:  # killed within a write
        file.write(b'{"trial": {"bundle": "9343')
    records = run(comparison, path, rest)
    assert records == run(comparison, tmp_path / "other.jsonl", whole)
    assert len(first.ran) == most
    assert sorted(map(repr, first.ran + rest.ran)) == sorted(map(repr, whole.ran))
    assert len(set(whole.ran)) == len(whole.ran)
    assert run(comparison, path, again) == records
    assert again.ran == []


def test_records_do_not_depend_on_which_other_methods_and_tasks_run_beside(
    comparison: MethodComparison, tmp_path: Path
) -> None:
    together = run(comparison, tmp_path / "a.jsonl", Episodes())
    alone = [
        record
        for task in (1, 2)
        for name in ("bc", "bfn4", "qgf", "grad_step")
        for record in run(
            replace(comparison, tasks=(task,), methods=methods_named(name)), tmp_path / "b.jsonl", Episodes()
        )
    ]

    def key(record: dict[str, Any]) -> tuple[int, int, str]:
        return record["training_seed"], record["task"], record["method"]

    assert sorted(alone, key=key) == sorted(together, key=key)


def test_episodes_are_counted_and_never_more_than_was_said(comparison: MethodComparison, tmp_path: Path) -> None:
    counted: list[int] = []
    told: list[str] = []
    bundle = comparison.bundles[0]
    run_bundle(
        comparison,
        bundle,
        open_store(tmp_path / "trials.jsonl", bundle),
        Episodes(),
        progress=lambda trial, outcomes: counted.append(len(outcomes)),
        finished=lambda record: told.append(record["method"]),
    )
    assert 0 < sum(counted) <= comparison.most_episodes_of(bundle)
    assert sorted(told) == sorted(["bc", "bfn4", "qgf", "grad_step"] * 2)
    sizes = rung_sizes(32)
    assert comparison.most_episodes(METHODS["qgf"]) == most_episodes(6, sizes) + len(sizes) * 20
    assert comparison.most_episodes(METHODS["bfn4"]) == 20


def test_methods_for_the_first_training_seed_run_on_it_alone(comparison: MethodComparison) -> None:
    first, second = comparison.bundles
    assert "grad_step" in [method.name for method in comparison.methods_of(first)]
    assert "grad_step" not in [method.name for method in comparison.methods_of(second)]
    everywhere = replace(comparison, first_seed_only=())
    assert everywhere.methods_of(second) == comparison.methods
    assert set(FIRST_SEED_ONLY) < set(METHODS)


def test_every_family_has_its_first_training_seed_before_any_has_its_second(
    bundles: tuple[TrainedBundle, ...], comparison: MethodComparison
) -> None:
    other = [replace(bundle, family="other") for bundle in bundles]
    mixed = replace(comparison, bundles=(*bundles, *other, replace(other[0], training_seed=7)))
    assert [(bundle.family, bundle.training_seed) for bundle in mixed.bundles_in_turn()] == [
        ("cube-single", 0),
        ("other", 0),
        ("cube-single", 1),
        ("other", 1),
        ("other", 7),
    ]


def test_every_estimator_and_best_of_n_is_compared() -> None:
    assert {method.estimator for method in METHODS.values()} == set(ESTIMATORS)
    assert {(m.num_samples, m.weights == (0.0,)) for m in METHODS.values()} == {
        (1, True),
        (4, True),
        (16, True),
        (32, True),
        (1, False),
        (4, False),
        (16, False),
    }
    assert all(0.0 not in method.weights for method in METHODS.values() if len(method.weights) > 1)


@pytest.mark.parametrize(
    ("file", "policy", "weights", "estimator"),
    [
        ("", "an actor of one step", (0.0,), "qgf"),
        ("", "one behaviour-cloned velocity field for every critic", WEIGHTS, "qgf"),
        ("q_robust_grad.onnx", "one behaviour-cloned velocity field", WEIGHTS, "robust"),
        ("velocity.onnx", "two velocity fields", DIFFERENCE_WEIGHTS, "classifier_free"),
    ],
)
def test_a_bundle_that_is_one_method_is_run_as_what_it_is(
    bundles: tuple[TrainedBundle, ...], file: str, policy: str, weights: tuple[float, ...], estimator: str
) -> None:
    manifest = bundles[0].manifest
    files = {f"critics/{name}/{file}": manifest.files["velocity.onnx"] for name in manifest.critics} if file else {}
    changed = manifest.model_copy(update={"training": {"policy": policy}, "files": {**manifest.files, **files}})
    row = replace(bundles[0], row="mine", manifest=changed)
    assert method_of_row(row) == Method("mine", weights, estimator=estimator)
    comparison = MethodComparison((bundles[0], row), (2, 3), methods_named("bc,qgf"))
    assert (comparison.tasks_of(row), comparison.methods_of(row)) == ((2,), (method_of_row(row),))
    assert comparison.methods_of(bundles[0]) == methods_named("bc,qgf")
    replace(comparison, tasks=None).check()


def test_methods_are_named_in_the_order_given_and_once() -> None:
    assert [method.name for method in methods_named("qgf, bc,qgf")] == ["qgf", "bc"]
    assert [method.name for method in methods_named("noisy,qfql")] == ["noisy"]
    assert [method.name for method in methods_named("")] == list(METHODS)
    with pytest.raises(SimulationError, match="method 'best' was given; expected some of bc, bfn4"):
        methods_named("bc,best")


def test_other_weights_are_for_methods_that_choose() -> None:
    methods = with_weights(methods_named("bfn4,qgf,grad_step"), (0.1, 0.02), (0.5,))
    assert [method.weights for method in methods] == [(0.0,), (0.1, 0.02), (0.5,)]
    assert [options.guidance_weight for options in methods[1].options("task1")] == [0.02, 0.1]
    assert with_weights(methods, None, None) == methods


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": (9,)}, "no critic for task 9"),
        ({"tasks": ()}, "no task was given"),
        ({"episodes": 0}, "episodes 0"),
        ({"choosing_episodes": 0}, "episodes 0"),
        ({"seed": 10_031}, "overlap"),
        ({"choosing_seed": 20_019}, "overlap"),
        ({"batch_size": 0}, "batch-size 0"),
    ],
)
def test_an_impossible_comparison_is_refused_before_anything_runs(
    comparison: MethodComparison, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        replace(comparison, **change).check()


def test_guidance_by_the_difference_of_two_velocity_fields_is_not_reported_as_that_by_a_gradient(
    comparison: MethodComparison,
) -> None:
    bundle = comparison.bundles[0]
    files = dict(bundle.manifest.files)
    fields = {f"critics/{name}/velocity.onnx": files["velocity.onnx"] for name in bundle.manifest.critics}
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": {**files, **fields}}))
    with pytest.raises(
        SimulationError, match="method qgf was given, but bundle tiny-0 is guided by the difference of two"
    ):
        replace(comparison, bundles=(other,)).check()
    replace(comparison, bundles=(other,), methods=methods_named("bc,bfn4")).check()


def test_a_possible_comparison_is_let_through(comparison: MethodComparison) -> None:
    comparison.check()
    replace(comparison, seed=10_032).check()
    replace(comparison, methods=tuple(METHODS.values()), tasks=None).check()


def few(bundles: tuple[TrainedBundle, ...], names: str) -> MethodComparison:
    chosen = with_weights(methods_named(names), (0.0, 0.1), None)
    return MethodComparison(bundles[:1], (1,), chosen, choosing_episodes=1, episodes=1)


def test_methods_share_seeds_and_noise_in_real_episodes(bundles: tuple[TrainedBundle, ...], tmp_path: Path) -> None:
    """At weight 0 and N = 1 every method is plain BC, episode by episode."""
    comparison = few(bundles, "bc,bptt")
    comparison = replace(comparison, methods=(METHODS["bc"], replace(METHODS["bptt"], weights=(0.0,))))
    with local_processes(1) as execute:
        first, second = run(comparison, tmp_path / "trials.jsonl", execute)
    assert first["reporting"] == second["reporting"]
    assert first["reporting"]["first_seed"] == 20_000


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_records(bundles: tuple[TrainedBundle, ...], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the ray extra")
    comparison = replace(few(bundles, "bc,qgf"), bundles=bundles)
    with local_processes(1) as execute:
        here = run(comparison, tmp_path / "here.jsonl", execute)
    with ray_cluster("local", num_cpus=2) as execute:
        assert run(comparison, tmp_path / "ray.jsonl", execute) == here
