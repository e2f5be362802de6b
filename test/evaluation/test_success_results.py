"""The committed comparison of methods: its claims follow from its episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.evaluation.method_report import report
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
