"""The committed comparison of methods: its claims follow from its episodes, and docs/comparison.md says the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.evaluation.method_report import report
from qgf_ros.reports.figures import method_label
from qgf_ros.reports.numbers import plain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "success" / "success.json").read_text())
    return found


def test_every_claim_follows_from_the_outcomes_of_episodes(table: dict[str, Any]) -> None:
    again = plain(report(table["records"], table["costs"], reference=table["settings"]["reference"]))
    assert {key: table[key] for key in again} == again


def test_every_rate_is_that_of_its_episodes(table: dict[str, Any]) -> None:
    for record in table["records"]:
        found = record["reporting"]
        assert sum(found["outcomes"]["success"]) == found["successes"]
        assert len(found["outcomes"]["success"]) == found["episodes"] == table["settings"]["episodes"]
        assert found["last_seed"] - found["first_seed"] + 1 == found["episodes"]


def test_the_page_of_the_comparison_has_its_numbers(table: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "comparison.md").read_text()
    rows = [line[1:-1].split("|") for line in page.partition("## Success")[2].splitlines() if line.startswith("| ")]
    lines = {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows if len(cells) == 4}
    labels = {"bfn4": "best of 4 (BFN)", "grad_step": "gradient steps (L = 1)"}
    for row in table["overall"]["methods"]:
        weights, success, steps, versus = lines[labels.get(row["method"], method_label(row["method"]))]
        low, high = (100 * bound for bound in row["wilson95"])
        assert success == f"{100 * row['success_rate']:.0f} % [{low:.0f}, {high:.0f}]"
        assert steps == f"{row['mean_length']:.0f}"
        chosen = [weight for task in row["tasks"] for weight in task["weights"]]
        assert [float(weight) for weight in weights.split(", ")] == list(dict.fromkeys(chosen))
        if row["versus"]:
            numbers = [round(100 * value) for value in (row["versus"]["difference"], *row["versus"]["newcombe95"])]
            assert [int(number) for number in re.findall(r"[+-]?\d+", versus)] == numbers
