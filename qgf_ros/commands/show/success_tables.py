"""What the analyses of success in closed loop show while they run, and of what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from qgf_ros.commands.show.analysis_tables import small_table
from qgf_ros.commands.show.display import number
from qgf_ros.evaluation.bundle_families import TrainedBundle
from qgf_ros.reports.figures import method_label


class BundleBar:
    """Progress of one bundle; nobody knows how soon its searches end.

    Args:
        bar: Where it is.
        console: Where each finished method is told.
        bundle: Which bundle.
        most: Most episodes that it takes.
    """

    def __init__(self, bar: Progress, console: Console, bundle: TrainedBundle, most: int) -> None:
        self._bar, self._console = bar, console
        self._title = f"{bundle.family}, training seed {bundle.training_seed}"
        self._row = bar.add_task(self._title, total=most)

    def add(self, trial: object, outcomes: Sequence[object]) -> None:
        """Count the episodes of a trial that ran."""
        self._bar.advance(self._row, len(outcomes))

    def tell(self, record: Mapping[str, Any]) -> None:
        """Say what a method does on a task."""
        found = record["reporting"]
        weight = f", weight {record['weight']:g}" if record["weight"] else ""
        rate = rate_and_interval(found["success_rate"], found["ci95"])
        self._console.print(
            f"{self._title}, task {record['task']}, {method_label(record['method'])}{weight}: {rate} % of {found['episodes']}",
            highlight=False,
            soft_wrap=True,
        )

    def finish(self) -> None:
        """Count what was not needed as done."""
        self._bar.update(self._row, total=self._bar.tasks[self._row].completed)


def rate_and_interval(value: float, interval: Sequence[float], *, signed: bool = False) -> str:
    """Return a share and its interval in per cent, for people."""
    low, high = interval
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.0f} [{100 * low:{sign}.0f}, {100 * high:{sign}.0f}]"


def success_tables(numbers: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of `qgf_ros.evaluation.method_report.report`: each family, and all together where there are several."""
    parts = [(part["family"], part["methods"]) for part in numbers["families"]]
    if len(parts) > 1:
        parts.append(("all families", numbers["overall"]["methods"]))
    for title, rows in parts:
        yield _success(title, rows)
        if any(row["versus"] for row in rows):
            yield _against(title, rows)
    title, rows = parts[-1]
    if any(row["fewer"] for row in rows):
        yield _fewer(title, rows)


def _success(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = (
        (
            method_label(row["method"]),
            rate_and_interval(row["success_rate"], row["ci95"]),
            rate_and_interval(row["iqm"]["value"], row["iqm"]["ci95"]),
            str(row["episodes"]),
            number((row["cost"] or {}).get("gflops"), 4),
            number((row["cost"] or {}).get("time_ms"), 1),
            number(None if (trained := row.get("training_seconds")) is None else trained / 60.0, 0),
        )
        for row in rows
    )
    headings = ("method", "mean [%]", "IQM [%]", "n", "GFLOPs", "ms", "train [min]")
    return small_table(headings, lines, title=f"{title}: success with 95 % intervals, cost of an inference, training")


def _against(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = (
        (
            method_label(row["method"]),
            rate_and_interval(row["versus"]["difference"], row["versus"]["ci95"], signed=True),
            f"{row['versus']['p_holm']:.2g}",
            row["versus"]["verdict"].partition(" ")[0],
            rate_and_interval(row["probability_of_improvement"]["value"], row["probability_of_improvement"]["ci95"]),
            str(row["versus"]["pairs"]),
        )
        for row in rows
        if row["versus"]
    )
    headings = ("method", "difference", "p", "verdict", "QGF better", "n")
    return small_table(headings, lines, title=f"{title}: against QGF, paired; p by Holm; probability of improvement")


def _fewer(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    def difference(found: Mapping[str, Any] | None) -> str:
        return "" if found is None else rate_and_interval(found["value"], found["ci95"], signed=True)

    lines = (
        (
            method_label(row["method"]),
            str(line["choosing_episodes"]),
            f"{line['episodes_spent']:.0f}",
            rate_and_interval(line["success_rate"], line["ci95"]),
            difference(line["versus_final"]),
            difference(line["gain_over_bc"]),
        )
        for row in rows
        for line in row["fewer"]
    )
    headings = ("method", "each", "all", "success [%]", "- final", "- BC")
    return small_table(headings, lines, title=f"{title}: chosen on so many episodes of each setting, of all settings")


def uncertainty_tables(numbers: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the curves of `qgf_ros.evaluation.weight_curves.variants_report`, and what the best weights are worth."""
    variants = numbers["variants"]
    weights = [line["guidance_weight"] for line in variants[0]["curve"]]
    rates = (
        (variant["variant"], *(f"{100 * line['success_rate']:.0f}" for line in variant["curve"]), _cliff_text(variant))
        for variant in variants
    )
    count = variants[0]["curve"][0]["episodes"]
    headings = ("success [%] at weight", *(f"{weight:g}" for weight in weights), "cliff")
    yield small_table(headings, rates, title=f"the sweep, n = {count} each")
    rows = (
        (
            variant["variant"],
            rate_and_interval(variant["mean_over_weights"]["value"], variant["mean_over_weights"]["ci95"]),
            rate_and_interval(variant["chosen"]["success_rate"], variant["chosen"]["ci95"]),
            *_versus_text(variant["chosen"]["versus"]),
        )
        for variant in variants
    )
    headings = ("variant", "mean [%]", "best [%]", "difference", "p", "verdict")
    reported = variants[0]["chosen"]["episodes"]
    title = f"mean over weights; best on other seeds, n = {reported}; p by Holm"
    yield small_table(headings, rows, title=title)


def _cliff_text(variant: Mapping[str, Any]) -> str:
    numbers = (variant["cliff"]["guidance_weight"], *variant["cliff"]["ci95"])
    weight, low, high = ("beyond" if value is None else f"{value:.2g}" for value in numbers)
    return f"{weight} [{low}, {high}]"


def _versus_text(versus: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if versus is None:
        return "", "", ""
    difference = rate_and_interval(versus["difference"], versus["ci95"], signed=True)
    return difference, f"{versus['p_holm']:.2g}", versus["verdict"]


def size_table(numbers: Mapping[str, Any]) -> Table:
    """Return the points of `qgf_ros.analysis.model_sizes.sizes_report`."""

    def against(versus: Mapping[str, Any] | None) -> str:
        return "" if versus is None else rate_and_interval(versus["difference"], versus["ci95"], signed=True)

    rows = (
        (
            f"{point['series']}, {method_label(point['method'])}",
            point["hidden"],
            f"{point['velocity'] / 1000:.0f}k",
            rate_and_interval(point["success_rate"], point["ci95"]),
            str(point["episodes"]),
            against(point["versus_smallest"]),
            number(point["held_out_loss"], 3),
        )
        for point in numbers["points"]
    )
    headings = ("method", "layers", "size", "success [%]", "n", "- smallest", "loss")
    title = "size: parameters of the velocity field; loss: of the critics, held out"
    return small_table(headings, rows, title=title)
