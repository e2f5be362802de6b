"""The figure of a tuning shows the rates that were measured, and Q where it can be compared."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need the analysis extra")

from qgf_ros.evaluation.tuning_figure import draw_tuning
from qgf_ros.reports.statistics import wilson_interval


def run(weight: float, solved: int, episodes: int, values: list[float | None], **settings: Any) -> dict[str, Any]:
    return {
        "guidance_weight": weight,
        "settings": settings,
        "episodes": episodes,
        "success_rate": solved / episodes,
        "ci95": list(wilson_interval(solved, episodes)),
        "outcomes": {"start_q": values},
    }


RECORD: dict[str, Any] = {
    "critic": "task1",
    "choosing": [
        run(0.0, 1, 2, [None, None]),
        run(0.1, 4, 4, [-4.0, -2.0, -90.0, -90.0]),
        run(1.0, 0, 2, [-1.0, -2.0]),
        run(0.1, 1, 2, [-3.0, -3.0], num_samples=4),
    ],
    "reporting": [run(0.0, 1, 4, [None] * 4), run(0.1, 4, 4, [-1.0] * 4)],
}


def test_rates_and_q_stand_over_their_weights() -> None:
    upper, lower = draw_tuning([RECORD]).axes
    curves = {label: handle for handle, label in zip(*upper.get_legend_handles_labels())}
    assert list(curves) == [
        "BC, held-out seeds",
        "guided, choosing seeds",
        "num_samples 4, choosing seeds",
        "chosen, held-out seeds",
    ]
    line = curves["guided, choosing seeds"].lines[0]  # type: ignore[union-attr]
    assert line.get_xydata().tolist() == [[0.1, 100.0], [1.0, 0.0]]
    # Of the two seeds that all have run: -90 belongs to others.
    assert [np.asarray(line.get_xydata()).tolist() for line in lower.lines] == [
        [[0.1, -3.0], [1.0, -1.5]],
        [[0.1, -3.0]],
    ]


def test_of_many_combinations_the_chosen_and_the_best_are_drawn_and_the_others_counted() -> None:
    # Nine combinations; the chosen one is neither the first nor the best on the choosing seeds.
    choosing = [run(0.0, 0, 4, [None] * 4)]
    choosing += [run(0.1, min(samples, 10), 12, [-1.0] * 12, num_samples=samples) for samples in range(2, 11)]
    reporting = [run(0.0, 0, 4, [None] * 4), run(0.1, 4, 4, [-1.0] * 4, num_samples=2)]
    records = [
        {"critic": "task1", "choosing": choosing, "reporting": reporting},
        {"critic": "task2", "choosing": choosing[::-1], "reporting": reporting[:1]},
    ]
    figure = draw_tuning(records)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts() if "num_samples" in text.get_text()]
    assert shown == [f"num_samples {samples}, choosing seeds" for samples in (2, 10, 9, 8, 7, 6, 5)]
    assert legend.get_title().get_text() == "2 more combinations of settings, which did worse, are not shown"
    first, second = (
        {
            label: handle.lines[0].get_color()
            for handle, label in zip(*axes.get_legend_handles_labels())
            if label in shown
        }
        for axes in figure.axes[:2]
    )
    assert first == second, "a combination has one colour in every column"
    assert all(len(axes.lines) == len(shown) for axes in figure.axes[2:])


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_the_legend_lies_within_the_figure_and_leaves_room_for_the_curves(columns: int) -> None:
    settings = {"estimator": "qgf_jacobian", "execution_horizon": 5, "weight_schedule": "cosine"}
    bc, values = run(0.0, 0, 4, [None] * 4), [-1.0] * 4
    choosing = [bc, *(run(0.1, 1, 4, values, num_samples=samples, **settings) for samples in range(2, 13))]
    for record in (RECORD, {"critic": "task1", "choosing": choosing, "reporting": [bc, run(0.1, 4, 4, values)]}):
        figure = draw_tuning([record] * columns)
        figure.savefig(BytesIO())  # which lays it out
        (legend,) = figure.legends
        around, inside = figure.bbox, legend.get_window_extent()
        assert around.x0 <= inside.x0 < inside.x1 <= around.x1
        assert around.y0 <= inside.y0
        upper, lower = (figure.axes[row].get_window_extent() for row in (0, columns))
        assert inside.y1 < lower.y0 < lower.y1 < upper.y0
        assert upper.height > 1.5 * figure.dpi


def test_every_critic_has_a_column() -> None:
    figure = draw_tuning([RECORD, {**RECORD, "critic": "task2", "reporting": RECORD["reporting"][:1]}])
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == ["task1", "task2"]
