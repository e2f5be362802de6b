"""The bundles in models/ are whole, small, and as good as their committed evidence and the documentation say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.bundle.store import load_manifest, reference_picture_file
from qgf_ros.reports.statistics import wilson_interval

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent for path in (ROOT / "models").glob("*/manifest.json"))


def evidence(bundle: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ROOT / "docs" / "results" / f"{bundle.name}.json").read_text())
    return record


def per_cent(successes: int, episodes: int) -> str:
    low, high = wilson_interval(successes, episodes)
    return f"{100 * successes / episodes:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def test_all_of_them_are_small() -> None:
    assert BUNDLES
    assert sum(path.stat().st_size for path in (ROOT / "models").rglob("*")) < 50e6


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
class TestShippedBundle:
    def test_it_is_whole_and_the_one_that_was_measured(self, bundle: Path) -> None:
        manifest = load_manifest(bundle)
        found = {name: record.sha256 for name, record in manifest.files.items()}
        looked_at = {reference_picture_file(camera) for camera in manifest.cameras}  # by people, and no policy
        assert looked_at <= found.keys()
        assert evidence(bundle)["files"] == {name: found[name] for name in found.keys() - looked_at}

    def test_its_weights_and_their_evidence_are_those_of_the_committed_table(self, bundle: Path) -> None:
        manifest = load_manifest(bundle)
        for task in evidence(bundle)["tasks"]:
            card = manifest.critics[task.get("critic", f"task{task['task']}")]
            assert card.recommended_weight == task["recommended_weight"]
            for purpose in ("choosing", "reporting"):
                claimed = [
                    (e.guidance_weight, e.successes, e.episodes, e.first_seed, e.last_seed)
                    for e in card.evaluations
                    if e.purpose == purpose
                ]
                measured = [
                    (run["guidance_weight"], run["successes"], run["episodes"], run["first_seed"], run["last_seed"])
                    for run in task[purpose]
                ]
                assert claimed == measured

    def test_what_was_chosen_is_reported_on_other_seeds(self, bundle: Path) -> None:
        for task in evidence(bundle)["tasks"]:
            choosing, reporting = task["choosing"][0], task["reporting"][0]
            assert choosing["last_seed"] < reporting["first_seed"] or reporting["last_seed"] < choosing["first_seed"]

    def test_the_documentation_gives_its_rates_and_intervals(self, bundle: Path) -> None:
        text = (ROOT / "docs" / "evaluation.md").read_text()
        cells = []
        for record in evidence(bundle)["tasks"]:
            turns = len(record.get("tasks", [record["task"]]))  # of the tasks that one critic serves, seed by seed
            for outcomes in (run["outcomes"] for run in record["reporting"]):
                for turn in range(turns):
                    solved = [ok for ok, seed in zip(outcomes["success"], outcomes["seed"]) if seed % turns == turn]
                    cells.append(per_cent(sum(solved), len(solved)))
        assert [cell for cell in cells if f"| {cell} |" not in text] == []
