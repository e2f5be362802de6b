"""Choosing and reporting: disjoint seeds, no recommendation without evidence, all of it in the manifest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="tuning needs the sim extra")

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.own_graphs import GRADIENT_WEIGHTS
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.control.run_options import BC, KINDS, OWN_HORIZON, ROWS, RunOptions
from qgf_ros.errors import BundleError, GuidanceError, SimulationError
from qgf_ros.evaluation.halving import Outcome, Run
from qgf_ros.evaluation.recommendation import LEVEL
from qgf_ros.evaluation.trials import fingerprint
from qgf_ros.evaluation.tuning import Protocol, choose, critics_of, tune, write_evidence
from qgf_ros.evaluation.tuning_figure import draw_tuning

ROOT = Path(__file__).parents[2]
PROTOCOL = Protocol((0.1, 0.3), choosing_episodes=10, reporting_episodes=40)
#: Options of a command that say how many episodes there are, and from which seed on.
SEEDS = ("choosing_episodes", "choosing_seed", "reporting_episodes", "reporting_seed")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle)


def scripted(rates: Mapping[float, float], reported: Mapping[float, float] | None = None) -> Run:
    """Run episodes of given success rates, others on the reporting seeds if wanted."""

    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        now = reported if reported is not None and seeds.start >= PROTOCOL.reporting_seed else rates
        count = len(seeds)
        return {
            name: [
                Outcome(seed, place < round(now[name.guidance_weight] * count), 100, name.guidance_weight or None)
                for place, seed in enumerate(seeds)
            ]
            for name in configurations
        }

    return run


def bernoulli(rates: Mapping[float, float], world: int, shared: float) -> Run:
    """Run episodes of known success rates, part of whose luck all configurations of a seed share."""
    generator = np.random.default_rng(world)
    common = generator.random(10_000)

    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        found = {}
        for name in configurations:
            places = np.array(seeds) % len(common)
            luck = np.where(generator.random(len(seeds)) < shared, common[places], generator.random(len(seeds)))
            solved = luck < rates[name.guidance_weight]
            found[name] = [Outcome(seed, bool(ok), 100) for seed, ok in zip(seeds, solved)]
        return found

    return run


def shares_recommended(manifest: Manifest, rates: Mapping[float, float], shared: float, worlds: int) -> float:
    protocol = Protocol(tuple(rates), choosing_episodes=32, reporting_episodes=60)
    runs = (bernoulli(rates, world, shared) for world in range(worlds))
    return sum(tune(manifest, "task1", protocol, run)["recommended_weight"] > 0.0 for run in runs) / worlds


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_where_no_weight_helps_hardly_ever_one_is_recommended(manifest: Manifest, rate: float, shared: float) -> None:
    nothing_helps = dict.fromkeys((0.0, *(0.01 * 2**i for i in range(8))), rate)
    assert shares_recommended(manifest, nothing_helps, shared, worlds=200) <= LEVEL


def test_where_guidance_only_harms_none_is_recommended(manifest: Manifest) -> None:
    harms = {0.0: 0.6, 0.01: 0.55, 0.1: 0.4, 1.0: 0.1}
    assert shares_recommended(manifest, harms, 0.5, worlds=200) <= LEVEL


def test_a_weight_that_helps_is_found(manifest: Manifest) -> None:
    helps = {0.0: 0.15, 0.01: 0.4, 0.02: 0.7, 0.04: 0.85, 0.08: 0.7, 0.3: 0.4, 1.0: 0.1}
    assert shares_recommended(manifest, helps, 0.5, worlds=50) == 1.0


def test_the_best_weight_is_recommended_with_its_evidence(bundle: Path, manifest: Manifest) -> None:
    found = tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4}))
    assert found["recommended_weight"] == 0.1
    assert found["verdict"] == (
        "weight 0.1: 90 % [77, 96], behaviour cloning 10 % [4, 23], on the held-out seeds (p = 4.7e-10); it is recommended"
    )
    write_evidence(bundle, "task1", found)
    card = load_manifest(bundle).critics["task1"]
    assert card.recommended_weight == 0.1
    assert card.tested_range == (0.0, 0.3)
    assert [(e.purpose, e.guidance_weight, e.successes) for e in card.evaluations] == [
        ("choosing", 0.0, 1),
        ("choosing", 0.1, 9),
        ("choosing", 0.3, 4),
        ("reporting", 0.0, 4),
        ("reporting", 0.1, 36),
    ]
    seeds = {e.purpose: set(range(e.first_seed, e.last_seed + 1)) for e in card.evaluations}
    assert not seeds["choosing"] & seeds["reporting"]
    assert card.versus_bc is not None
    assert (card.versus_bc.only_bc, card.versus_bc.only_guided) == (0, 32)
    assert card.versus_bc.p_value == pytest.approx(2 / 2**32)


def test_other_critics_keep_their_card(bundle: Path, manifest: Manifest) -> None:
    write_evidence(bundle, "task1", tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4})))
    assert load_manifest(bundle).critics["task2"] == manifest.critics["task2"]


def test_a_weight_that_only_shone_on_the_choosing_seeds_is_not_recommended(bundle: Path, manifest: Manifest) -> None:
    lucky = scripted({0.0: 0.3, 0.1: 0.6, 0.3: 0.5}, reported={0.0: 0.3, 0.1: 0.4})
    found = tune(manifest, "task1", PROTOCOL, lucky)
    assert found["recommended_weight"] == 0.0
    assert found["verdict"].endswith("that is not better with confidence, weight 0 is recommended")
    write_evidence(bundle, "task1", found)
    card = load_manifest(bundle).critics["task1"]
    assert card.recommended_weight == 0.0
    assert card.versus_bc is not None
    assert card.versus_bc.p_value > LEVEL


def test_plain_cloning_wins_when_it_is_best(bundle: Path, manifest: Manifest) -> None:
    found = tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.9, 0.1: 0.6, 0.3: 0.5}))
    assert (found["recommended_weight"], found["comparison"]) == (0.0, None)
    assert [run["guidance_weight"] for run in found["reporting"]] == [0.0]
    assert "nothing was better than behaviour cloning on the choosing seeds" in found["verdict"]
    write_evidence(bundle, "task1", found)
    assert load_manifest(bundle).critics["task1"].versus_bc is None


def test_what_was_found_is_json_and_tells_of_q_and_of_every_rung(manifest: Manifest) -> None:
    found: dict[str, Any] = json.loads(
        json.dumps(
            tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4})), allow_nan=False, default=list
        )
    )
    assert [run["start_q"] for run in found["choosing"]] == [None, 0.1, 0.3]
    assert [rung["leader"] for rung in found["rungs"]] == ["weight 0.1"]
    assert found["choosing"][1]["outcomes"]["success"] == [True] * 9 + [False]


def test_everything_asked_for_is_combined_once_and_compared_with_plain_cloning(manifest: Manifest) -> None:
    protocol = Protocol(
        (0.1,), tried={"estimator": ("qgf", "noisy"), "num_samples": (1, 4), "execution_horizon": (2, 5)}
    )
    tried = protocol.configurations(manifest, "task1")
    assert tried[0] == replace(BC, critic="task1")
    assert len(tried) == len(set(tried)) == 4 + 8
    # An execution horizon of 2 is the bundle's own; without guidance there is no estimator to tell apart.
    assert {name.execution_horizon for name in tried} == {OWN_HORIZON, 5}
    assert {name.estimator for name in tried if not name.guidance_weight} == {"qgf"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"max_guidance_deviation": 0.5, "guidance_weight_slew": 0.1}),
        ({"max_guidance_deviation": 0.3}, {"guidance_weight_slew": 0.1}),
    ],
)
def test_limits_that_the_reported_episodes_never_met_are_recommended_for_a_robot(
    bundle: Path, manifest: Manifest, given: dict[str, float], expected: dict[str, float]
) -> None:
    """Above the farthest that guidance went on the held-out seeds, a quarter of it; what was set is not set again."""

    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        far = 0.4 if seeds.start >= PROTOCOL.reporting_seed else 1.5
        rates = {0.0: 0.1, 0.1: 0.9, 0.3: 0.4}
        return {
            options: [
                Outcome(seed, k < rates[options.guidance_weight] * len(seeds), 100, None, None if k else far)
                for k, seed in enumerate(seeds)
            ]
            for options in configurations
        }

    found = tune(manifest, "task1", replace(PROTOCOL, base=replace(BC, **given)), run)
    before = fingerprint(manifest)
    write_evidence(bundle, "task1", found)
    written = load_manifest(bundle)
    card = written.critics["task1"]
    assert card.recommended_limits == expected
    assert card.evaluations[-1].guidance_distance == 0.4
    assert fingerprint(written) == before  # trials of the bundle are still its own
    limited = RunOptions(critic="task1", **given, **expected)
    assert limited.resolve(written).guidance_weight == 0.1
    assert limited.untested(written) == ""
    if not given:
        assert "untested with max_guidance_deviation 0.2" in replace(limited, max_guidance_deviation=0.2).untested(
            written
        )


def test_no_limits_are_recommended_where_no_weight_is(manifest: Manifest) -> None:
    found = tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.9, 0.1: 0.6, 0.3: 0.5}))
    assert found["recommended_limits"] == {}


def test_settings_that_were_found_are_recommended_with_the_weight(bundle: Path, manifest: Manifest) -> None:
    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        best = RunOptions(0.1, "task1", num_samples=4)
        return {name: [Outcome(seed, name == best, 100) for seed in seeds] for name in configurations}

    found = tune(manifest, "task1", Protocol((0.1,), 16, reporting_episodes=20, tried={"num_samples": (1, 4)}), run)
    write_evidence(bundle, "task1", found)
    card = load_manifest(bundle).critics["task1"]
    assert (card.recommended_weight, card.recommended_settings) == (0.1, {"num_samples": 4})
    assert card.evaluations[-1].settings == {"num_samples": 4}


def test_the_best_of_many_is_recommended_without_guidance_where_that_solves_most(
    bundle: Path, manifest: Manifest
) -> None:
    best = RunOptions(0.0, "task1", num_samples=32)

    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        return {one: [Outcome(seed, one == best, 100) for seed in seeds] for one in configurations}

    protocol = Protocol((0.01, 0.03), 16, reporting_episodes=20, tried={"num_samples": (1, 16, 32)})
    assert len(protocol.configurations(manifest, "task1")) == 3 * 3
    found = tune(manifest, "task1", protocol, run)
    assert (found["recommended_weight"], found["recommended_settings"]) == (0.0, {"num_samples": 32})
    assert found["verdict"].startswith("weight 0, num_samples 32: 100 %")
    assert found["verdict"].endswith("it is recommended")
    assert found["recommended_limits"] == {}
    assert [(run["guidance_weight"], run["settings"]) for run in found["reporting"]] == [
        (0.0, {}),
        (0.0, {"num_samples": 32}),
    ]
    write_evidence(bundle, "task1", found)
    written = load_manifest(bundle)
    assert RunOptions().resolve(written).num_samples == 32
    assert RunOptions(critic="task2").resolve(written).num_samples == 1
    figure = draw_tuning([{**found, "critic": "task1"}])
    labels = {" ".join(text.get_text().split()) for text in figure.legends[0].texts}
    assert "chosen without guidance: num_samples 32, held-out seeds" in labels


def test_settings_that_were_in_force_are_recommended_with_the_weight(bundle: Path, manifest: Manifest) -> None:
    given = {"max_guidance_deviation": 0.3, "seam": "linear", "blend_steps": 5}
    protocol = replace(PROTOCOL, base=replace(BC, **given))
    found = tune(manifest, "task1", protocol, scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4}))
    write_evidence(bundle, "task1", found)
    card = load_manifest(bundle).critics["task1"]
    assert (card.recommended_weight, card.recommended_settings) == (0.1, given)
    beside = {"seam": "linear", "blend_steps": 5}  # where nothing is guided, nothing deviates
    for evaluation in card.evaluations:
        assert evaluation.settings == (given if evaluation.guidance_weight else beside)
    nothing = tune(manifest, "task1", protocol, scripted({0.0: 0.9, 0.1: 0.6, 0.3: 0.5}))
    assert (nothing["recommended_weight"], nothing["recommended_settings"]) == (0.0, {})


def test_settings_that_mean_nothing_with_the_weight_are_not_recommended_with_it(manifest: Manifest) -> None:
    given = {"blend_steps": 5, "ascent_steps": 3, "ascent_sign": True}
    for estimator, settings in (
        ("noisy", {"estimator": "noisy"}),
        ("grad_step", {"ascent_steps": 3, "ascent_sign": True, "estimator": "grad_step"}),
    ):
        tried = {"estimator": (estimator,)}
        protocol = Protocol((0.1,), 16, reporting_episodes=20, tried=tried, base=replace(BC, **given))
        found = tune(manifest, "task1", protocol, scripted({0.0: 0.1, 0.1: 0.9}))
        assert found["recommended_settings"] == settings
        assert [run["settings"] for run in found["reporting"]] == [{}, settings]


def test_a_configuration_that_the_bundle_cannot_run_is_refused_before_the_first_episode(manifest: Manifest) -> None:
    def run(configurations: Sequence[RunOptions], seeds: range) -> dict[RunOptions, list[Outcome]]:
        raise AssertionError("nothing may be run")

    with pytest.raises(GuidanceError, match="estimator 'best' was given"):
        tune(manifest, "task1", Protocol((0.1,), tried={"estimator": ("best",)}), run)
    with pytest.raises(GuidanceError, match="execution_horizon 9 was given"):
        tune(manifest, "task1", Protocol((0.1,), tried={"execution_horizon": (9,)}), run)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "models").glob("*/manifest.json")))
def test_the_recommendations_of_a_shipped_bundle_follow_from_the_episodes_of_its_documented_command(name: str) -> None:
    report = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    command = re.sub(r" --workers \d+", "", report["command"])
    command = command.replace(" --weights ", " --guidance-weights ")  # as it was called when some were made
    pages = " ".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert command in " ".join(pages.replace("\\\n", "").split()), "nobody is told of the command"
    words = command.split()
    assert words[:3] == ["qgf", "tune", f"models/{name}"]
    manifest = load_manifest(ROOT / "models" / name)
    assert report.get("files", {}).items() <= {path: file.sha256 for path, file in manifest.files.items()}.items()
    given = dict(zip(words[3::2], words[4::2]))
    weights = (
        tuple(map(float, given["--guidance-weights"].split(","))) if "--guidance-weights" in given else GRADIENT_WEIGHTS
    )
    options = {key.strip("-").replace("-", "_"): value for key, value in given.items()}
    numbers = {name: int(options[name]) for name in SEEDS if name in options}
    tried = {
        name: tuple(map(KINDS[name], options[row.plural].split(",")))
        for name, row in ROWS.items()
        if row.plural in options and name != "guidance_weight"
    }
    assert len(report["tasks"]) == len(manifest.critics)
    for record in report["tasks"]:
        episodes = {
            (run["guidance_weight"], str(run["settings"]), seed): Outcome(seed, solved, length)
            for purpose in ("choosing", "reporting")
            for run in record[purpose]
            for seed, solved, length in zip(*(run["outcomes"][key] for key in ("seed", "success", "length")))
        }

        def run(
            configurations: Sequence[RunOptions],
            seeds: range,
            episodes: Mapping[tuple[float, str, int], Outcome] = episodes,
        ) -> dict[RunOptions, list[Outcome]]:
            return {
                one: [episodes[one.guidance_weight, str(one.changed()), seed] for seed in seeds]
                for one in configurations
            }

        critic = record.get("critic", f"task{record['task']}")
        found = tune(manifest, critic, Protocol(weights, **numbers, tried=tried), run)
        card = manifest.critics[critic]
        assert found["recommended_weight"] == record["recommended_weight"] == card.recommended_weight
        assert found["recommended_settings"] == card.recommended_settings


def test_critics_of_tasks(manifest: Manifest) -> None:
    assert critics_of(manifest) == {"task1": (1,), "task2": (2,)}
    assert critics_of(manifest, (2,)) == {"task2": (2,)}
    with pytest.raises(SimulationError, match="no critic for task 3"):
        critics_of(manifest, (3,))


def test_among_equals_the_faster_weight_is_chosen() -> None:
    runs = [
        {"guidance_weight": 0.1, "success_rate": 0.9, "mean_length": 120.0},
        {"guidance_weight": 0.3, "success_rate": 0.9, "mean_length": 80.0},
    ]
    assert choose(runs) == 0.3


def test_overlapping_seeds_are_refused() -> None:
    with pytest.raises(SimulationError, match="overlap"):
        Protocol(choosing_seed=0, choosing_episodes=30, reporting_seed=29)


def test_a_report_of_nothing_is_refused() -> None:
    with pytest.raises(SimulationError, match="reporting-episodes 0 was given; it must be at least 1"):
        Protocol(reporting_episodes=0)


def test_nothing_is_written_into_a_bundle_that_was_replaced_meanwhile(bundle: Path, manifest: Manifest) -> None:
    found = tune(manifest, "task1", PROTOCOL, scripted({0.0: 0.1, 0.1: 0.9, 0.3: 0.4}))
    replaced = manifest.model_copy(update={"denoising_steps": 3})
    update_manifest(bundle, replaced)
    with pytest.raises(BundleError, match="was replaced while it was tuned, nothing was written into it"):
        write_evidence(bundle, "task1", found)
    assert load_manifest(bundle) == replaced
