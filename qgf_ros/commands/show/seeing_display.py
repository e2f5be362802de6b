"""How a run that sees is shown: its encoder trains first, then the features of all rows are computed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from qgf_ros.commands.show.display import progress_bar
from qgf_ros.commands.show.interruptions import interruptions
from qgf_ros.commands.show.training_display import training_progress
from qgf_ros.learning.course import Intervals
from qgf_ros.learning.run import Rewarded
from qgf_ros.learning.trainer import TrainingConfig
from qgf_ros.learning.vision.picture_flow import PictureFlowConfig
from qgf_ros.learning.vision.seeing import ENCODER_KEY, Seen, see, train_encoder


class SightTraining(NamedTuple):
    """How a run comes to see.

    Attributes:
        config: Of the encoder's updates.
        options: Of its networks.
        device: Where it trains.
        intervals: How often it reports and saves.
    """

    config: TrainingConfig
    options: PictureFlowConfig
    device: torch.device
    intervals: Intervals

    @classmethod
    def of(
        cls, config: TrainingConfig, given: Mapping[str, Any], device: torch.device, intervals: Intervals
    ) -> SightTraining:
        """Return how a run of this configuration and these options comes to see; the encoder's rate falls over its own updates."""
        updates = replace(config, updates=given["encoder_updates"], restart_at=0, goal_conditioned=False)
        return cls(updates, PictureFlowConfig.from_dict(given), device, intervals)


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
    config, options, device, intervals = sight
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

        found = see(path, training, validation, out, device=device, report=report)
    return found, {**header, ENCODER_KEY: found.record}
