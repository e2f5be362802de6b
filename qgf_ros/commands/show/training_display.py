"""How a training run is shown: a progress bar with the losses on a terminal, a line per validation elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from qgf_ros.commands.show.display import progress_bar

if TYPE_CHECKING:
    from qgf_ros.learning.run import Progress
    from qgf_sim.worlds.families import Reward


@contextmanager
def training_progress(console: Console, updates: int) -> Iterator[Callable[[Progress], None]]:
    """Yield what is to be called after every update of a run.

    Args:
        console: Where to show it.
        updates: Number of updates in all.
    """
    with progress_bar(console, "updates") as bar:
        task = bar.add_task("training", total=updates)

        def report(progress: Progress) -> None:
            bar.update(task, completed=progress.step)
            if progress.losses and console.is_terminal:
                bar.update(task, description=_losses(progress.losses))
            if progress.validation:
                text = f"update {progress.step}: {_losses(progress.losses)}; validation {_losses(progress.validation)}"
                console.print(text, highlight=False, soft_wrap=True)

        yield report


def _losses(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in losses.items())


def warn_of_rest(console: Console, env: str, tasks: tuple[int, ...], discount: float, reward: Reward) -> None:
    """Say which tasks even the best policy for the reward does not solve."""
    from qgf_sim.worlds.optima import unsolved

    left = unsolved(env, tasks, discount, reward)
    if left:
        each = ", ".join(f"task {task} with {wrong} object{'s'[: wrong > 1]} wrong" for task, wrong in left.items())
        console.print(
            f"warning: with the dense reward and discount {discount:g} the best policy rests before {env} is solved ({each}): "
            "living with that costs less than the way on; --reward sparse, or a discount nearer to 1, asks for the whole task",
            highlight=False,
            soft_wrap=True,
        )
