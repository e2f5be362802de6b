"""What analyses share: counts that are checked, where trials run, what each says of itself, where its results go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress

    from qgf_ros.evaluation.trials import Execute


def at_least_one(**counts: int) -> None:
    """Raise GuidanceError unless every count is at least 1."""
    from qgf_ros.errors import GuidanceError

    for name, count in counts.items():
        if count < 1:
            raise GuidanceError(f"{name.replace('_', '-')} {count} was given; it must be at least 1")


@contextmanager
def running_trials(
    console: Console, kept: Path, workers: int | None, ray: str | None
) -> Iterator[tuple[Progress, Execute]]:
    """Give a bar of episodes, and what runs trials: a Ray cluster, or processes of this machine.

    Args:
        console: Where the bar is.
        kept: File of finished trials, which Ctrl-C is answered with.
        workers: Processes; every core by default.
        ray: Address of a cluster.
    """
    from qgf_ros.commands.show.display import progress_bar
    from qgf_ros.reports.machine import usable_cores
    from qgf_sim.rollouts.trial_pools import local_processes, ray_cluster

    count = usable_cores() if workers is None else workers
    try:
        with (
            progress_bar(console, "episodes") as bar,
            ray_cluster(ray) if ray is not None else local_processes(count) as execute,
        ):
            yield bar, execute
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished trials are kept in {kept}, the same command goes on from there"
        ) from None


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
