"""The file of outcomes: whole lines, or an error."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qgf_ros.errors import SimulationError
from qgf_sim.bridge.episodes import EpisodeOutcome, ResultsFile

OUTCOME = EpisodeOutcome(1, 2, 3, True, 70, 0, 0, 0, shift={"mass_factor": 2.0})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk with no room for more."""
    found = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, found[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, found)
        signal.signal(signal.SIGXFSZ, ignored)


def test_half_a_line_is_an_error_and_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.jsonl"
    ResultsFile(path).append(OUTCOME)
    size = path.stat().st_size
    with largest_file(size + 20), pytest.raises(SimulationError, match="cannot be written .*; free some space"):
        ResultsFile(path).append(OUTCOME)
    assert path.stat().st_size == size + 20
    ResultsFile(path).append(OUTCOME)
    first, _, last = path.read_text().splitlines()
    assert json.loads(first) == json.loads(last)
    assert json.loads(last)["shift"] == {"mass_factor": 2.0}
