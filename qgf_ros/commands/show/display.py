"""What several sub-commands show while they run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qgf_ros.control.run_options import DEFAULTS, words


class FinishedEpisode(Protocol):
    """What the display reads of an episode; `qgf_ros.evaluation.results.Episode` is one."""

    @property
    def guidance_weight(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def success(self) -> bool: ...
    @property
    def length(self) -> int: ...
    @property
    def mean_value(self) -> float: ...
    @property
    def median_latency(self) -> float: ...


def plain_console() -> Console:
    """Return a console that is 120 columns wide where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def progress_bar(console: Console, unit: str) -> Progress:
    """Return a progress bar that counts `unit`; each task may carry a `note`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table cell, a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def results_table(runs: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """Return the table of `qgf demo` and `qgf evaluate`.

    Args:
        runs: From `qgf_ros.evaluation.results.summarise`.
        title: Above the table.
    """
    caption = "\n".join(filter(None, map(_came_with, runs)))
    table = Table(title=title, title_justify="left", caption=caption or None, caption_justify="left")
    delayed = any(run.get("waited") for run in runs)
    jerk = ("jerk", "still") if delayed else ()
    for heading in ("weight", "success", "95 % interval", "mean length", *jerk, "latency p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        low, high = run["ci95"]
        latency = run["latency_ms"]
        table.add_row(
            f"{run['guidance_weight']:g}",
            f"{run['successes']}/{run['episodes']}  {100 * run['success_rate']:.0f} %",
            f"{100 * low:.0f} - {100 * high:.0f} %",
            f"{run['mean_length']:.0f} steps",
            *((number(run["jerk"], 3), f"{100 * run['waited']:.0f} %") if delayed else ()),
            f"{number(latency['p50'])} ms",
            f"{number(latency['p99'])} ms",
        )
    return table


def _came_with(run: Mapping[str, Any]) -> str:
    """Return what a run had that is no default and not all runs had, "" for nothing."""
    settings = {name: value for name, value in run.get("settings", {}).items() if value != DEFAULTS[name]}
    return f"weight {run['guidance_weight']:g} with {words(settings)}" if settings else ""


class RunDisplay:
    """Live progress of episodes at several guidance weights; plain lines where there is no terminal.

    Args:
        console: Where to show it.
        title: What is running.
        weights: Guidance weights, one line each.
        episodes: Episodes per weight.
    """

    def __init__(self, console: Console, title: str, weights: Sequence[float], episodes: int) -> None:
        self._console = console
        self._title = title
        self._bar = progress_bar(console, "episodes")
        self._tasks = {weight: self._bar.add_task(f"weight {weight:g}", total=episodes) for weight in weights}
        self._outcomes: dict[float, list[bool]] = {weight: [] for weight in weights}
        self._note = Text("starting")
        self._live = Live(console=console, get_renderable=lambda: Group(self._bar, self._note), transient=True)

    def __enter__(self) -> RunDisplay:
        self._console.print(self._title, highlight=False, soft_wrap=True)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """Show what is going on right now."""
        self._note = Text(text, style="dim")

    def warn(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, style="yellow", highlight=False, soft_wrap=True)

    def add(self, episode: FinishedEpisode) -> None:
        """Count a finished episode."""
        weight = episode.guidance_weight
        outcomes = self._outcomes[weight]
        outcomes.append(episode.success)
        rate = f"{sum(outcomes)}/{len(outcomes)} solved"
        self._bar.update(self._tasks[weight], advance=1, description=f"weight {weight:g}: {rate}")
        line = (
            f"weight {weight:g} seed {episode.seed}: {'success' if episode.success else 'failure'} after {episode.length} "
            f"steps, Q {number(episode.mean_value)}, latency {number(episode.median_latency)} ms, {rate}"
        )
        if self._console.is_terminal:
            self.note(line)
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def conclude(self, runs: Sequence[Mapping[str, Any]]) -> None:
        """Print the final table."""
        self._console.print(results_table(runs))
