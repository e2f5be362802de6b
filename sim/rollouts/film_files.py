"""Moving pictures and contact sheets as files, each written in one move."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qgf_ros.errors import SimulationError
from qgf_ros.files.destination import replacing

Picture = NDArray[np.uint8]

#: Pictures of a row of a contact sheet.
SHEET_COLUMNS = 6


def check_film(path: Path) -> None:
    """Raise SimulationError unless the ending is one of a film, and ModuleNotFoundError if its writer is missing."""
    if path.suffix not in (".gif", ".mp4"):
        raise SimulationError(
            f"{path} was given; films are animated GIFs or MP4, name it something.gif or something.mp4"
        )
    if path.suffix == ".mp4":
        import av  # noqa: F401  (before hundreds of pictures are rendered)


def check_sheet(path: Path) -> None:
    """Raise SimulationError unless the ending is one of a contact sheet."""
    if path.suffix != ".png":
        raise SimulationError(f"{path} was given; contact sheets are PNG, name it something.png")


def write_pictures(path: Path, frames: Sequence[Picture], period: float) -> None:
    """Write a film.

    Args:
        path: Checked by `check_film`.
        frames: uint8 [height, width, 3], all of one size.
        period: Time from frame to frame [s].

    Raises:
        SimulationError: The file cannot be written.
    """
    with replacing(path, "file", SimulationError) as temporary:
        (_write_mp4 if path.suffix == ".mp4" else _write_gif)(temporary, frames, period)


def write_sheet(path: Path, rows: Sequence[Sequence[Picture]]) -> None:
    """Write a contact sheet: of each row of pictures some, evenly from the first to the last.

    Raises:
        SimulationError: The file cannot be written.
    """
    chosen = [
        [row[round(i)] for i in np.linspace(0, len(row) - 1, SHEET_COLUMNS)]  # a short row shows some twice
        for row in rows
    ]
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in chosen])
    with replacing(path, "file", SimulationError) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG")


def _write_gif(path: Path, frames: Sequence[Picture], period: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    # One palette for the whole film keeps colours still and the file small; "coverage" keeps small things coloured.
    palette = images[0].quantize(160, method=Image.Quantize.MAXCOVERAGE)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=round(1000 * period), loop=0, optimize=True)


def _write_mp4(path: Path, frames: Sequence[Picture], period: float) -> None:
    import av

    height, width = frames[0].shape[0] // 2 * 2, frames[0].shape[1] // 2 * 2  # yuv420p halves both
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(1 / period).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20"}
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
