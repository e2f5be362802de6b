"""A disk that has no room left, for each way of writing: one sentence, what was there before, and nothing else."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.errors import QgfError

PICTURES = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(4)]
ARRAYS = {"observations": np.random.default_rng(0).random((2000, 4))}


@contextmanager
def no_room() -> Iterator[None]:
    """Let files grow to 1000 bytes; what lies on the disk does not shrink."""
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, found[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
        signal.signal(signal.SIGXFSZ, ignored)


def a_report(folder: Path, bundle: Path) -> None:
    from qgf_ros.evaluation.results import write_report

    write_report(folder / "report.json", {"numbers": list(range(1000))})


def the_numbers_of_an_analysis(folder: Path, bundle: Path) -> None:
    from qgf_ros.reports.numbers import write_json

    write_json(folder / "numbers.json", {"numbers": list(range(1000))})


def a_figure(folder: Path, bundle: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the analysis extra")
    from qgf_ros.reports.figures import new_figure, write_figure

    figure = new_figure(3.0, 2.0)
    figure.subplots().plot([0.0, 1.0], [0.0, 1.0])
    write_figure(figure, folder, "figure")


def a_film(folder: Path, bundle: Path) -> None:
    from qgf_sim.rollouts.film_files import write_pictures

    write_pictures(folder / "film.gif", PICTURES, 0.1)


def a_film_as_mp4(folder: Path, bundle: Path) -> None:
    pytest.importorskip("av", reason="films as MP4 need the film extra")
    from qgf_sim.rollouts.film_files import write_pictures

    write_pictures(folder / "film.mp4", PICTURES, 0.1)


def a_contact_sheet(folder: Path, bundle: Path) -> None:
    from qgf_sim.rollouts.film_files import write_sheet

    write_sheet(folder / "sheet.png", [PICTURES])


def a_data_set_of_recordings(folder: Path, bundle: Path) -> None:
    from qgf_ros.recording.rows.data_file import Pieces, write_data_set

    pictures = {"images/wrist": Pieces((4, 64, 64, 3), [picture.tobytes() for picture in PICTURES])}
    write_data_set(folder / "data.npz", ARRAYS, pictures)


def an_episode_of_an_oracle(folder: Path, bundle: Path) -> None:
    from qgf_sim.worlds.shards import write_shard

    write_shard(folder / "train-000000.npz", ARRAYS)


def a_checkpoint(folder: Path, bundle: Path) -> None:
    torch = pytest.importorskip("torch", reason="checkpoints need the train extra")
    from qgf_ros.learning.checkpoint import save_checkpoint

    save_checkpoint(folder, 5, {"weights": torch.zeros(1000)}, {"config": {}})


def a_bundle(folder: Path, bundle: Path) -> None:
    from qgf_ros.bundle.store import read_bundle, write_bundle

    write_bundle(folder / "bundle", *read_bundle(bundle))


def a_manifest(folder: Path, bundle: Path) -> None:
    from qgf_ros.bundle.store import load_manifest, update_manifest

    if not (folder / "manifest.json").exists():
        (folder / "manifest.json").write_text("{}")
    update_manifest(folder, load_manifest(bundle))


def a_robot_contract(folder: Path, bundle: Path) -> None:
    from qgf_ros.cli import main

    arguments = ["contract", "template", "--bundle", str(bundle), "--out", str(folder / "robot.yaml"), "--force"]
    if main(arguments) == 2:
        raise QgfError("the command has said it, cannot be written")


WRITERS = (
    a_report,
    the_numbers_of_an_analysis,
    a_figure,
    a_film,
    a_film_as_mp4,
    a_contact_sheet,
    a_data_set_of_recordings,
    an_episode_of_an_oracle,
    a_checkpoint,
    a_bundle,
    a_manifest,
    a_robot_contract,
)


def found(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_what_finds_no_room_is_one_sentence_and_leaves_what_was_there(
    write: Callable[[Path, Path], Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    write(tmp_path, tiny_bundle)
    before = found(tmp_path)
    with no_room(), pytest.raises(QgfError, match="cannot be written") as caught:
        write(tmp_path, tiny_bundle)
    assert "\n" not in str(caught.value)
    assert found(tmp_path) == before
