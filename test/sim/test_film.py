"""Films are real pictures of real episodes, or one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ogbench", reason="films need the sim extra")

FILM = """
import sys
from pathlib import Path
from qgf_sim.film import write_film
write_film(Path(sys.argv[1]), 1, 3, [0.0, 0.1], Path(sys.argv[2]), size=(96, 64), every=50)
"""


def test_a_film_has_a_column_per_weight_and_moves(tiny_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageSequence

    out = tmp_path / "film.gif"
    run = subprocess.run(
        [sys.executable, "-c", FILM, str(tiny_bundle), str(out)],
        env={**os.environ, "MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "no picture could be rendered" in run.stderr:
        pytest.skip("no GL back end on this machine")
    assert run.returncode == 0, run.stderr
    with Image.open(out) as film:
        assert film.size == (192, 64 + 26)
        pictures = {frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(film)}
    assert len(pictures) > 2


def test_a_film_that_is_no_gif_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    from qgf_ros.errors import SimulationError
    from qgf_sim.film import write_film

    with pytest.raises(SimulationError, match="name it something.gif"):
        write_film(tiny_bundle, 1, 0, [0.0], tmp_path / "film.mp4")
