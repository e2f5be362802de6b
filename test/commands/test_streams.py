"""Standard output in any encoding, closed, full, or left by its reader: what can be written is, and nothing ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qgf_ros.commands.show.streams import steady_streams

CARD = ("inspect", "BUNDLE")
HELP = ("--help",)
MISTAKE = ("inspect", "nowhère")


def qgf(bundle: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "qgf_ros.cli", *(str(bundle) if word == "BUNDLE" else word for word in words)]


@pytest.mark.parametrize(
    ("words", "encoding"), [(HELP, "ascii"), (CARD, "ascii"), (CARD, "latin-1"), (MISTAKE, "ascii")]
)
def test_what_an_encoding_lacks_is_written_plainly(tiny_bundle: Path, words: tuple[str, ...], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "COLUMNS": "60"}
    done = subprocess.run(qgf(tiny_bundle, *words), capture_output=True, env=environment, check=False)
    output, error = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert done.returncode == (2 if words == MISTAKE else 0), error
    assert "Traceback" not in error
    assert "bundle 'nowh" in error or len(output) > 200


def test_a_character_that_has_nothing_plain_is_written_as_its_number(capfd: pytest.CaptureFixture[str]) -> None:
    text = "fields: [größe…]  # µm² ⠋ \U0001f916 \udcff"
    sys.stdout.flush()
    with (
        open(sys.stdout.fileno(), "w", encoding="ascii", closefd=False) as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", stream)
        with steady_streams():
            print(text)
        assert sys.stdout is stream, "as it was"
    assert capfd.readouterr().out == "fields: [gr\\xf6\\xdfe...]  # um^2 * \\U0001f916 \\udcff\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is a device of Linux")
@pytest.mark.parametrize("words", [HELP, CARD], ids=" ".join)
def test_a_full_disk_is_one_sentence(tiny_bundle: Path, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(qgf(tiny_bundle, *words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    sentence = "qgf: standard output cannot be written (No space left on device); write it elsewhere\n"
    assert (done.returncode, done.stderr) == (2, sentence)


@pytest.mark.parametrize("words", [HELP, CARD], ids=" ".join)
def test_a_reader_that_has_gone_hears_no_complaint(tiny_bundle: Path, words: tuple[str, ...]) -> None:
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run(qgf(tiny_bundle, *words), stdout=end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(end)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("words", [HELP, CARD], ids=" ".join)
def test_closed_streams_are_nobody(tiny_bundle: Path, words: tuple[str, ...]) -> None:
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *qgf(tiny_bundle, *words)]
    assert subprocess.run(command, check=False).returncode == 0


def test_another_error_of_the_system_comes_through() -> None:
    with pytest.raises(FileNotFoundError), steady_streams():
        raise FileNotFoundError(2, "No such file", "somewhere")
