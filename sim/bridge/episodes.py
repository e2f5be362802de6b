"""Beginnings and outcomes of episodes as the bridge tells them, and the file that collects the outcomes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qgf_ros.errors import SimulationError


def begun_episode(answer: str) -> tuple[int, int] | None:
    """Return number and first stamp [ns] of the episode that an answer of the bridge's ``~/reset`` is about, if any."""
    found = re.search(r"episode (\d+):.* stamp (\d+) ns", answer)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class EpisodeOutcome:
    """One finished episode.

    Attributes:
        episode: Number of the episode since the bridge started, from 1.
        task: Single-task number.
        seed: Seed of the episode; in replay, the number of the recorded episode.
        success: Whether the task was solved; None in replay, where nothing is controlled.
        length: Control steps.
        late_commands: Commands that answered an earlier observation of the episode.
        held_steps: Steps for which no command arrived in time (in real time), or for which none could, because a message of
            the observation had dropped out (in lockstep).
        refused_commands: Malformed commands.
        keyframe: Where the arm began; empty for where the task puts it.
        shift: The domain shift, by name; empty for none.
        details: What a world adds, such as the differences of a replay.
    """

    episode: int
    task: int
    seed: int
    success: bool | None
    length: int
    late_commands: int
    held_steps: int
    refused_commands: int
    keyframe: str = ""
    shift: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the outcome as one line of JSON, the details beside the other keys."""
        record = asdict(self)
        details = record.pop("details")
        return json.dumps({**record, **details}, allow_nan=False)


class ResultsFile:
    """Appends outcomes to a JSON lines file; each line is on the disk before `append` returns.

    Args:
        path: The file; it is made, with its folder, when missing, and continued when not.

    Raises:
        SimulationError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                # A process killed within a write leaves half a line; it must not swallow the next one.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
        except OSError as error:
            raise SimulationError(f"results file {path} cannot be written ({error}); give another path") from error

    def append(self, outcome: EpisodeOutcome) -> None:
        """Write one line in one piece.

        Raises:
            SimulationError: The disk is full, or the file is gone.
        """
        try:
            with self.path.open("ab") as file:
                file.write(outcome.to_json().encode() + b"\n")
                file.flush()  # all of it or an error, where a raw write may be short
                os.fsync(file.fileno())
        except OSError as error:
            raise SimulationError(f"results file {self.path} cannot be written ({error}); free some space") from error
