"""How a training run is shown: a progress bar with the losses on a terminal, a line per validation elsewhere.

Of a run that sees, the encoder trains first, then the features of all rows are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console

from qgf_ros.commands.show.display import progress_bar
from qgf_ros.commands.show.interruptions import interruptions
from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM
from qgf_ros.learning.algorithms.options import StoredConfig
from qgf_ros.learning.checkpoint import latest_checkpoint
from qgf_ros.learning.course import Intervals
from qgf_ros.learning.run import Rewarded
from qgf_ros.learning.trainer import TrainingConfig
from qgf_ros.learning.vision.picture_critics import PictureCriticConfig, PictureCritics, begun_as
from qgf_ros.learning.vision.picture_flow import PictureFlowConfig
from qgf_ros.learning.vision.seeing import (
    CRITIC_ENCODER_KEY,
    ENCODER_KEY,
    KEPT,
    SHARED,
    VELOCITY_KEY,
    Seen,
    see,
    train_encoder,
)

if TYPE_CHECKING:
    from qgf_ros.learning.course import Progress
    from qgf_ros.learning.data.dataset import Dataset
    from qgf_sim.worlds.families import Reward


@contextmanager
def training_progress(console: Console, updates: int, what: str = "training") -> Iterator[Callable[[Progress], None]]:
    """Yield what is to be called after every update of a run.

    Args:
        console: Where to show it.
        updates: Number of updates in all.
        what: What is trained.
    """
    with progress_bar(console, "updates") as bar:
        task = bar.add_task(what, total=updates)

        def report(progress: Progress) -> None:
            bar.update(task, completed=progress.step)
            if progress.losses and console.is_terminal:
                bar.update(task, description=_losses(progress.losses))
            if progress.validation:
                text = f"update {progress.step}: {_losses(progress.losses)}; validation {_losses(progress.validation)}"
                console.print(text, highlight=False, soft_wrap=True)

        yield report


def introduce(
    console: Console, config: TrainingConfig, training: Rewarded, validation: Rewarded | None, device: str
) -> None:
    """Say what a run trains on: rows, how often they solve each task, horizon and device.

    Args:
        console: Where to say it.
        config: The run.
        training, validation: Its data.
        device: What it trains on.
    """
    from qgf_ros.learning.data.dataset import solved_chunks

    horizon, rows = config.horizon, len(training.dataset.terminals)
    starts = training.dataset.chunk_starts(horizon)
    shares = {name: solved_chunks(starts, masks, horizon).mean() for name, (_, masks) in training.rewards.items()}
    solved = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    aim = f"solved in {solved} of {len(starts)} chunks" if solved else "goals in hindsight"
    for note in training.dataset.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{rows} rows, {aim}; horizon {horizon}, {device}", highlight=False, soft_wrap=True)
    if validation is None:
        console.print("there is no validation file, so no validation loss", highlight=False)


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


class SightTraining(NamedTuple):
    """How a run comes to see.

    Attributes:
        config: Of the encoder's updates.
        options: Of its networks.
        device: Where it trains.
        intervals: How often it reports and saves.
        critic_encoder: Whose encoder the critics see through, shared or own.
        velocity_field: Whether it is kept or trained on behind the finished encoder.
    """

    config: TrainingConfig
    options: PictureFlowConfig
    device: torch.device
    intervals: Intervals
    critic_encoder: str = SHARED
    velocity_field: str = KEPT

    @classmethod
    def of(
        cls, config: TrainingConfig, given: Mapping[str, Any], device: torch.device, intervals: Intervals
    ) -> SightTraining:
        """Return how a run of this configuration and these options comes to see; the encoder's rate falls over its own updates."""
        updates = replace(config, updates=given["encoder_updates"], restart_at=0, goal_conditioned=False)
        chosen = given["critic_encoder"], given["velocity_field"]
        return cls(updates, PictureFlowConfig.from_dict(given), device, intervals, *chosen)

    def critics(self, found: Seen, options: StoredConfig) -> dict[str, Any]:
        """Return how the critics train behind the encoder, as `learning.run.train` is told.

        Args:
            found: What the encoder gives them.
            options: Of the algorithm.
        """
        kept = self.velocity_field == KEPT
        given, begun = (found.velocity, {}) if kept else ({}, found.velocity)
        if self.critic_encoder == SHARED:
            return {"options": options, "given": given, "begun_with": begun}
        own = PictureCriticConfig.from_dict({**options.to_dict(), **self.options.to_dict()})
        begun = {**begun, **begun_as(found.encoder)}
        return {"options": own, "kind": PictureCritics, "given": given, "begun_with": begun}

    def told(self) -> dict[str, str]:
        """Return what a header says of it beside the encoder, as far as it is not the usual."""
        usual = {CRITIC_ENCODER_KEY: SHARED, VELOCITY_KEY: KEPT}
        chosen = {CRITIC_ENCODER_KEY: self.critic_encoder, VELOCITY_KEY: self.velocity_field}
        return {key: value for key, value in chosen.items() if value != usual[key]}


def check_sight(
    path: Path, training: Dataset, algorithm: str, chosen: Mapping[str, Any], critics_from: Path | None
) -> None:
    """Raise TrainingError where a data set is asked for what comes of no pictures, or of none yet.

    Args:
        path, training: The data set.
        algorithm, critics_from: Options of `qgf train`.
        chosen: Those that pictures alone have, as far as they are not the usual.
    """
    if training.pictures is None:
        if chosen:
            told = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())
            raise TrainingError(f"{told} was given, but {path} has no pictures to encode; leave it out")
        return
    if algorithm != DEFAULT_ALGORITHM:
        raise TrainingError(
            f"{path} has pictures, of which {algorithm} makes no policy yet; give --algorithm {DEFAULT_ALGORITHM}"
        )
    if chosen.get("encoder_updates", 1) < 1:
        raise TrainingError(f"--encoder-updates {chosen['encoder_updates']} was given; there must be 1 or more")
    if critics_from is None:
        return
    if "critic_encoder" in chosen:
        raise TrainingError(
            f"--critic-encoder {chosen['critic_encoder']} was given with --critics-from, whose critics are as they are; "
            "leave it out"
        )
    if "velocity_field" not in chosen:
        raise TrainingError(
            "--critics-from was given with pictures, where the velocity field is kept behind the encoder, so that nothing is "
            "left to train; give --velocity-field trained"
        )
    if latest_checkpoint(critics_from) is None:  # before the encoder's hours, not after them
        raise TrainingError(
            f"{critics_from} holds no checkpoint to take critics from; give the --out folder of 'qgf train'"
        )


def seen(
    console: Console,
    sight: SightTraining,
    training: Rewarded,
    validation: Rewarded | None,
    header: Mapping[str, Any],
    out: Path,
) -> tuple[Seen, dict[str, Any]]:
    """Train the encoder of a run, unless that is done, and show it.

    Args:
        console: Where to show it.
        sight: How.
        training, validation: Data with pictures, and their rewards.
        header: What the checkpoints of the run say.
        out: Folder of the run.

    Returns:
        What the rest of the run needs, and the header of its checkpoints.

    Raises:
        TrainingError: See `train_encoder` and `see`.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
    """
    config, options, device, intervals, whose, _ = sight
    if not training.dataset.rendering and header.get("environment"):
        console.print(
            "note: the data set does not say how its pictures were made; those of the simulation have no shadows and coarser "
            "meshes than OGBench's own",
            highlight=False,
            soft_wrap=True,
        )
    with interruptions() as interrupted, training_progress(console, config.updates, "encoder") as show:
        path = train_encoder(
            config,
            options,
            training.dataset,
            None if validation is None else validation.dataset,
            header,
            out,
            device=device,
            intervals=intervals,
            report=show,
            interrupted=interrupted,
        )
    if interrupted():
        console.print(f"saved {path}", highlight=False, soft_wrap=True)
    interrupted.grant()
    bar = progress_bar(console, "rows")
    with ExitStack() as shown:

        def report(done: int, total: int) -> None:
            if not bar.live.is_started:  # there is something to compute
                shown.enter_context(bar)
                bar.add_task("features")
            bar.update(bar.task_ids[-1], completed=done, total=total)

        found = see(path, training, validation, out, device=device, critic_encoder=whose, report=report)
    return found, {**header, ENCODER_KEY: found.record, **sight.told()}
