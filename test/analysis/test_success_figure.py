"""The figure of the comparison: a panel for each family, every method in each that it ran in."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="figures need the analysis extra")

from qgf_ros.analysis.success_figure import draw_success


def row(method: str, seeds: dict[str, list[int]], rate: float = 0.5) -> dict[str, Any]:
    tasks = [{"success_rate": rate - 0.1}, {"success_rate": rate + 0.1}]
    interval = [rate - 0.05, rate + 0.05]
    return {"method": method, "training_seeds": seeds, "success_rate": rate, "ci95": interval, "tasks": tasks}


def test_families_stand_side_by_side_and_all_of_them_last() -> None:
    three, one = {"a": [0, 1, 2]}, {"b": [4]}
    numbers = {
        "families": [
            {"family": "a", "methods": [row("bc", three), row("qgf", three), row("bptt", {"a": [0]})]},
            {"family": "b", "methods": [row("bc", one), row("qgf", one)]},
        ],
        "overall": {"methods": [row("bc", {"a": [0], "b": [4]}), row("qgf", {"a": [0], "b": [4]})]},
    }
    panels = draw_success(numbers).axes
    assert [panel.get_title("left") for panel in panels] == ["a", "b", "all"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["BC", "QGF", "BPTT"]
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [["50"] * 3, ["50"] * 2, ["50"] * 2]


def test_a_method_of_fewer_training_seeds_says_so() -> None:
    rows = [row("qgf_bfn16", {"a": [0, 1, 2]}), row("bptt", {"a": [0]}), row("noisy", {"a": [0, 2]})]
    (panel,) = draw_success({"families": [{"family": "a", "methods": rows}], "overall": {"methods": rows}}).axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["QGF, best of 16", "BPTT (1 seed)", "noisy (QFQL) (2 seeds)"]


def test_nothing_is_drawn_of_nothing() -> None:
    with pytest.raises(ValueError, match="no method"):
        draw_success({"families": [], "overall": {"methods": []}})
