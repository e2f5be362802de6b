"""What every analysis says of itself, and where its figure and numbers go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from matplotlib.figure import Figure
    from rich.console import Console


def at_least_one(**counts: int) -> None:
    """Raise GuidanceError unless every count is at least 1."""
    from qgf_ros.errors import GuidanceError

    for name, count in counts.items():
        if count < 1:
            raise GuidanceError(f"{name.replace('_', '-')} {count} was given; it must be at least 1")


def settings_of(analysis: Any, bundle: Path) -> dict[str, Any]:
    """Return the options of an analysis, and what ties it to bundle and machine."""
    from qgf_ros.reports.origin import origin

    options = {name: value.name if isinstance(value, Path) else value for name, value in vars(analysis).items()}
    return {**options, **origin(bundle)}


def write(console: Console, out: Path, name: str, numbers: Mapping[str, Any] | None, figure: Figure) -> None:
    """Write figure and numbers; None where the analysis has written them itself."""
    from qgf_ros.reports.figures import write_figure
    from qgf_ros.reports.numbers import write_json

    if numbers is not None:
        write_json(out / f"{name}.json", numbers)
    write_figure(figure, out, name)
    console.print(f"{out / name}.json, .png and .svg", highlight=False, soft_wrap=True)
