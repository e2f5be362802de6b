"""How the episodes of recordings ended, where they say so, and where somebody says it for them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.bundle.text import one_line
from qgf_ros.errors import RecordingError
from qgf_ros.recording.recording import Recorded, Recording

#: A larger file lists no outcomes [bytes].
LARGEST_LIST = 1_000_000
_WORDS = {**dict.fromkeys(("true", "yes", "1"), True), **dict.fromkeys(("false", "no", "0"), False)}
_EXAMPLE = "a first line recording,success and then one such as demo_0.mcap,true for each episode"


@dataclass(frozen=True)
class Reward:
    """Where rewards come from: a field of a topic, or the success of each episode.

    Attributes:
        topic: None for success: 0 for the command that solves the task, after which nothing counts, else -1.
        path: Names of the field and of the fields it is in; a number is an index.
    """

    topic: str | None = None
    path: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reward:
        """Return the reward of ``success`` or ``TOPIC:FIELD``, such as ``/reward:data``; raises RecordingError."""
        if text == "success":
            return cls()
        topic, _, path = text.rpartition(":")
        if not topic or not path:
            raise RecordingError(f"reward {text!r} was given, expected success or TOPIC:FIELD, such as /reward:data")
        return cls(topic, tuple(path.split(".")))

    def value(self, recorded: Recorded) -> float:
        """Return the reward that a message holds; raises RecordingError."""
        value: Any = recorded.message
        try:
            for name in self.path:
                value = value[int(name)] if name.isdecimal() else getattr(value, name)
            number = float(value)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecordingError(
                f"topic {recorded.topic}, {recorded.type_name}, has no number {'.'.join(self.path)} "
                f"({one_line(str(error))}); "
                "give the path of a number, such as data"
            ) from error
        if not np.isfinite(number):
            raise RecordingError(f"topic {recorded.topic} holds a reward that is not finite")
        return number


@dataclass(frozen=True)
class Outcomes:
    """What is said of episodes from outside their recordings.

    Without a message that ends an episode, a recording of which something is said is one episode.

    Attributes:
        succeed: Whether every episode succeeded.
        listed: The outcomes of each recording's episodes in their order, by the name of its file or folder; None for no
            list.
        source: File of the list.
    """

    succeed: bool = False
    listed: Mapping[str, Sequence[bool]] | None = None
    source: str = ""

    @classmethod
    def of(cls, succeed: bool, path: Path | None) -> Outcomes:
        """Return the outcomes of the two options; raises RecordingError if both are given, or the list is none."""
        if path is None:
            return cls(succeed)
        if succeed:
            raise RecordingError(f"--every-episode-succeeds and --outcomes {path} were given; give one of them")
        return cls(listed=_read(path), source=str(path))

    def ends(self, recording: Recording, ends: Sequence[Recorded]) -> list[bool]:
        """Return whether each episode of a recording succeeded.

        Args:
            recording: The recording.
            ends: The messages that end its episodes.

        Returns:
            One per message; without a message one, for the recording, if something is said of it, else none.

        Raises:
            RecordingError: A message says nothing, or the contrary of what is said from outside, or the list has not one
                line for each episode.
        """
        if not self.succeed and self.listed is None:
            return [_success(end) for end in ends]
        episodes = max(len(ends), 1)
        given = [True] * episodes if self.listed is None else self._listed(recording, episodes)
        for end, success in zip(ends, given):
            said = _said(end)
            if said is not None and said is not success:
                raise RecordingError(
                    f"{recording.path}: {end.topic} says that an episode {'succeeded' if said else 'did not succeed'}, and "
                    f"{self.source or '--every-episode-succeeds'} the contrary; leave that out, or mend it"
                )
        return given

    def _listed(self, recording: Recording, episodes: int) -> list[bool]:
        assert self.listed is not None
        given = self.listed.get(recording.path.name, ())
        if len(given) != episodes:
            raise RecordingError(
                f"{self.source} has {len(given)} lines of {recording.path.name}, expected {episodes}, one for each episode, "
                "in their order; a recording without messages that end its episodes is one"
            )
        return list(given)


def _read(path: Path) -> dict[str, list[bool]]:
    """Return the outcomes in a file of comma-separated values, by recording."""
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise RecordingError(f"{path} is larger than {LARGEST_LIST / 1e6:g} MB, which no list of outcomes is")
        rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if any(map(str.strip, row))]
    except OSError as error:
        raise RecordingError(f"{path} cannot be read ({error.strerror}); give a list of outcomes") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path} is no text of comma-separated values ({error}); give {_EXAMPLE}") from error
    cells = [[cell.strip() for cell in row] for row in rows]
    if not cells or cells[0] != ["recording", "success"]:
        raise RecordingError(f"{path} does not begin with the line recording,success; give {_EXAMPLE}")
    found: dict[str, list[bool]] = {}
    for cell in cells[1:]:
        if len(cell) != 2 or cell[1].lower() not in _WORDS:
            raise RecordingError(
                f"{path} has the line {one_line(','.join(cell))!r}, expected a name and true or false; give {_EXAMPLE}"
            )
        found.setdefault(Path(cell[0]).name, []).append(_WORDS[cell[1].lower()])
    return found


def _success(recorded: Recorded) -> bool:
    """Return whether an episode succeeded; one that was given up (null) did not."""
    try:
        success = json.loads(recorded.message.data)["success"]
        if not (success is None or isinstance(success, bool)):
            raise ValueError(f"success is {str(success)[:40]!r}")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RecordingError(
            f"topic {recorded.topic} holds no outcome of an episode ({one_line(str(error))}); it must be a String of JSON "
            "with the key success, true or false"
        ) from error
    return success is True


def _said(recorded: Recorded) -> bool | None:
    """Return what the end of an episode says of its success, or None if it says nothing."""
    try:
        said = json.loads(recorded.message.data).get("success")
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return said if isinstance(said, bool) else None
