"""The course of a run, whatever is trained: from its newest checkpoint to its last update, with what it leaves behind."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from qgf_ros import __version__
from qgf_ros.errors import TrainingError
from qgf_ros.learning.checkpoint import latest_checkpoint, save_checkpoint
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.resumption import resume
from qgf_ros.learning.trainer import Trainer


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Updates done.
        updates: Updates in all.
        losses: Training losses at this step, by name; empty between reports.
        validation: Validation losses, likewise.
    """

    step: int
    updates: int
    losses: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Intervals:
    """How often a run reports and saves [updates].

    Raises:
        TrainingError: One is not positive.
    """

    log: int = 100
    validate: int = 500
    save: int = 2500

    def __post_init__(self) -> None:
        if min(self.log, self.validate, self.save) < 1:
            raise TrainingError(
                f"intervals log {self.log}, validate {self.validate} and save {self.save} were given; "
                "each must be 1 update or more"
            )


@contextmanager
def _denormals_are_zero() -> Iterator[None]:
    """Flush denormal numbers, which slow products down, for a while only: others in this process may count on them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_denormals_are_zero()
def course(
    trainer: Trainer,
    held_out: ChunkData | None,
    header: Mapping[str, Any],
    out: Path,
    *,
    intervals: Intervals,
    report: Callable[[Progress], None],
    interrupted: Callable[[], bool],
) -> Path:
    """Let a trainer do the updates that are left, from the newest checkpoint in `out` if there is one.

    Args:
        trainer: At its beginning.
        held_out: What to validate on, or None.
        header: What its checkpoints say.
        out: Folder of checkpoints and TensorBoard scalars.
        intervals: How often to report and save.
        report: Called after every update.
        interrupted: Asked after every update; when it says yes the run saves and ends.

    Returns:
        The newest checkpoint.

    Raises:
        TrainingError: The folder holds another run or cannot be written, or a loss is not finite.
    """
    config, device = trainer.config, trainer.device
    seconds = resume(trainer, header, out)
    clock = time.monotonic()
    validated: dict[str, Any] = {}

    def save() -> Path:
        spent = seconds + time.monotonic() - clock
        about = {"hardware": _hardware(device, spent), "versions": _versions(), **validated}
        return save_checkpoint(out, trainer.step, trainer.state(), {**header, **about})

    path = latest_checkpoint(out)
    report(Progress(trainer.step, config.updates))
    with _scalars(out, trainer.step) as writer:
        while trainer.step < config.updates:
            losses = trainer.update()
            step, last = trainer.step, trainer.step == config.updates or interrupted()
            due, saved = (last or step % every == 0 for every in (intervals.log, intervals.save))
            told = losses() if due or saved else {}  # which are finite, or nothing is saved
            progress = Progress(
                step,
                config.updates,
                told if due else {},
                trainer.validate(held_out) if held_out and (last or step % intervals.validate == 0) else {},
            )
            _write_scalars(writer, trainer, progress)
            if progress.validation:
                validated["held_out"] = {"updates": step, "losses": dict(progress.validation)}
            if saved:
                path = save()
            report(progress)
            if last:
                break
    if path is None:
        raise TrainingError(f"nothing to train: {config.updates} updates were asked for")
    return path


def _scalars(out: Path, step: int) -> SummaryWriter:
    """Open the folder of TensorBoard scalars, from which those after `step` are dropped."""
    try:
        return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
    except OSError as error:
        raise TrainingError(f"{out} cannot be written ({error.strerror}); choose another --out folder") from error


def _write_scalars(writer: SummaryWriter, trainer: Trainer, progress: Progress) -> None:
    for kind, losses in (("train", progress.losses), ("validation", progress.validation)):
        for name, value in losses.items():
            writer.add_scalar(f"{kind}/{name}", value, progress.step)
    if progress.losses:
        writer.add_scalar("learning_rate", trainer.learning_rate(), progress.step)


def _hardware(device: torch.device, seconds: float) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "seconds": round(seconds, 3)}


def _versions() -> dict[str, str]:
    return {"qgf_ros": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
