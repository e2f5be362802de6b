"""Films and contact sheets are real pictures of real episodes, or one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="films need the sim extra")

from PIL import Image, ImageSequence

from qgf_ros.cli import main
from qgf_ros.errors import SimulationError
from qgf_sim.rollouts.film_files import SHEET_COLUMNS, write_pictures, write_sheet

CAPTION = 40


def render(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `qgf render` with the display that a server has."""
    return subprocess.run(
        [sys.executable, "-m", "qgf_ros.cli", "render", *map(str, arguments)],
        env={**os.environ, "MUJOCO_GL": "egl", "QGF_MUJOCO_GL": "egl"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_run_gives_a_film_and_a_sheet_with_a_column_and_a_row_per_weight(tiny_bundle: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "film.gif", tmp_path / "sheet.png"
    size = ("--width", 96, "--height", 64, "--every", 50)
    run = render(
        "--bundle",
        tiny_bundle,
        "--task",
        1,
        "--seed",
        3,
        "--guidance-weights",
        "0,0.1",
        *size,
        "--out",
        out,
        "--sheet",
        sheet,
    )
    if "no picture could be rendered" in run.stderr:
        pytest.skip("no GL back end on this machine")
    assert run.returncode == 0, run.stderr
    assert "weight 0 not solved, weight 0.1 not solved" in run.stdout
    with Image.open(out) as film:
        assert film.size == (192, 64 + CAPTION)
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert len({frame.tobytes() for frame in frames}) > 2
    captions = frames[0][:CAPTION]
    assert (captions < 128).any(), "something is written above each column"
    with Image.open(sheet) as picture:
        assert picture.size == (96 * SHEET_COLUMNS, 2 * (64 + CAPTION))


def frames(count: int, height: int = 33, width: int = 47) -> list[np.ndarray]:
    """Even colours, each frame brighter than the one before."""
    return [np.full((height, width, 3), 10 * i, dtype=np.uint8) for i in range(count)]


def test_an_mp4_plays_back_as_the_pictures_it_was_made_of(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="MP4 needs the film extra")
    out = tmp_path / "deep" / "film.mp4"
    write_pictures(out, frames(20), period=0.1)
    with av.open(str(out)) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height) == (46, 32)
        assert float(stream.average_rate) == pytest.approx(10.0)
        seen = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
    np.testing.assert_allclose(seen, 10.0 * np.arange(20), atol=4.0)
    assert [path.name for path in out.parent.iterdir()] == ["film.mp4"], "nothing half-written is left"


def test_a_gif_holds_a_picture_for_minutes(tmp_path: Path) -> None:
    """Equal frames become one, whose time GIF counts in 16 bits of 10 ms."""
    out = tmp_path / "film.gif"
    write_pictures(out, [*frames(2), frames(2)[-1]], period=50.0)
    with Image.open(out) as film:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert sum(durations) == 150_000


def test_a_sheet_goes_evenly_from_the_first_picture_to_the_last(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    write_sheet(out, [frames(11), frames(3)])
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet)[::33, ::47, 0]
    assert pixels.tolist() == [[0, 20, 40, 60, 80, 100], [0, 0, 10, 10, 20, 20]]


@pytest.mark.parametrize(
    ("option", "name", "sentence"),
    [
        ("--out", "film.avi", "name it something.gif or something.mp4"),
        ("--sheet", "sheet.jpg", "name it something.png"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tiny_bundle: Path, tmp_path: Path, option: str, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(tiny_bundle), option, str(tmp_path / name)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--every", 0, "every 0"),
        ("--every", 1001, "every 1001"),
        ("--width", 0, "width 0"),
        ("--width", 99999, "width 99999"),
        ("--height", 8, "height 8"),
    ],
)
def test_a_size_or_rate_that_is_none_is_refused_before_the_bundle_is_loaded(
    tiny_bundle: Path,
    tmp_path: Path,
    option: str,
    value: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qgf_ros.runtime.policy.Policy.load", lambda *arguments: pytest.fail("it was loaded"))
    assert main(["render", str(tiny_bundle), "--out", str(tmp_path / "film.gif"), option, str(value)]) == 2
    said_so = capsys.readouterr().err
    assert said in said_so
    assert "expected 16 to 4096 pixels" in said_so


def test_two_bundles_are_refused(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(tiny_bundle), "--bundle", str(tiny_bundle)]) == 2
    assert "name one" in capsys.readouterr().err


def test_a_film_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SimulationError, match="choose another file"):
        write_pictures(tmp_path / "file" / "film.gif", frames(2), period=0.1)
