"""A synthetic camera: a bright square stands where the robot is to go, so that only the pictures tell the action."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROWS, SIDE, STATE = 120, 16, 3


def write_scene(path: Path, *, seed: int = 0, state: int = STATE, rows: int = ROWS) -> Path:
    """Write a data set of episodes of 30 rows, with rewards, whose camera is called wrist."""
    random = np.random.default_rng(seed)
    places = random.uniform(0.0, 1.0, (rows, 2))
    pictures = np.full((rows, SIDE, SIDE, 3), 40, np.uint8)
    for picture, (row, column) in zip(pictures, (places * (SIDE - 4)).astype(int)):
        picture[row : row + 4, column : column + 4] = (250, 20, 20)
    ends = np.arange(rows) % 30 == 29
    np.savez(
        path,
        observations=random.standard_normal((rows, state)).astype(np.float32) if state else pictures,
        actions=(2.0 * places - 1.0).astype(np.float32),
        terminals=ends,
        rewards=ends - 1.0,
        masks=np.ones(rows),
        **({"images/wrist": pictures} if state else {}),  # type: ignore[arg-type]
    )
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Such a data set with a validation file."""
    write_scene(tmp_path / "scene-val.npz", seed=1)
    return write_scene(tmp_path / "scene.npz")
