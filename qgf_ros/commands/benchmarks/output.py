"""What the benchmarks share: a bundle found, a progress bar, a table, and where their numbers go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.table import Table

#: Called with a word on each step that is done.
Progress = Callable[[str], None]


def located(bundle: Path | None) -> Path:
    """Return the folder of a bundle, of the shipped one by default."""
    from qgf_ros.bundle.locate import DEFAULT_BUNDLE, locate_bundle

    return locate_bundle(DEFAULT_BUNDLE if bundle is None else bundle)


def names(text: str) -> tuple[str, ...]:
    """Return the names that a text separates by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def table_of(title: str, headings: Sequence[str]) -> Table:
    """Return a table without rows: words on the left, numbers on the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place and heading else "left", no_wrap=True)
    return table


def run_benchmark(
    measure: Callable[[Progress], dict[str, Any]], steps: int, table: Callable[[Mapping[str, Any]], Table], path: Path
) -> None:
    """Measure with a progress bar, say how idle the machine was, print the table and write the numbers.

    Args:
        measure: Takes what is called at each step, and returns the numbers.
        steps: How many steps there are.
        table: Makes the table of the numbers.
        path: Of the JSON to write.
    """
    from qgf_ros.commands.show.display import plain_console, progress_bar
    from qgf_ros.files.destination import check_folder
    from qgf_ros.reports.machine import IDLE
    from qgf_ros.reports.numbers import write_json
    from qgf_ros.reports.origin import origin

    check_folder(path.parent)
    console = plain_console()
    with progress_bar(console, "steps") as bar:
        row = bar.add_task("starting", total=steps)
        numbers = {**origin(), **measure(lambda note: bar.update(row, advance=1, description=note))}
    load = numbers["load"]["before"]
    if load is not None and load > IDLE:
        console.print(
            f"the machine is not idle, others keep {load:.1f} cores busy: times are too long; stop what else runs and repeat",
            style="yellow",
            soft_wrap=True,
        )
    console.print(table(numbers))
    write_json(path, numbers)
    console.print(str(path), highlight=False, soft_wrap=True)
