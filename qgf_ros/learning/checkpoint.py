"""Checkpoints: safetensors files that hold everything a bit-exact continuation needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from qgf_ros.errors import TrainingError
from qgf_ros.files.destination import replacing

KEPT = 2


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of one step lies."""
    return folder / f"checkpoint-{step:08d}.safetensors"


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training folder, or None."""
    return max(folder.glob("checkpoint-*.safetensors"), default=None)


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> Path:
    """Write a checkpoint in one move and drop all but the newest two.

    Args:
        folder: Training folder.
        step: Updates done.
        tensors: From `Trainer.state`.
        header: JSON values: configuration, critics, contract.

    Raises:
        TrainingError: It cannot be written; the ones before are there.
    """
    path = checkpoint_path(folder, step)
    metadata = {key: json.dumps(value) for key, value in header.items()}
    kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    try:
        with replacing(path, "--out, or free some space", TrainingError) as temporary:
            save_file(kept, temporary, metadata)
    except SafetensorError as error:
        raise TrainingError(
            f"{path} cannot be written ({error}); choose another --out, or free some space, and give the same command"
        ) from error
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        Tensors by name, and the header.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as archive:
            header = {key: json.loads(value) for key, value in (archive.metadata() or {}).items()}
            return {key: archive.get_tensor(key) for key in archive.keys()}, header
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"{path} is not a readable checkpoint ({error}); train again or restore the file"
        ) from error
