"""The errors a user can meet.

Each message is one sentence: what was given, what was expected, how to mend it. The command line prints the
sentence without a traceback; a node logs it, holds and goes on.
"""

import difflib
from collections.abc import Iterable


class QgfError(Exception):
    """Root of every error this package raises on purpose."""


class OutputError(QgfError):
    """What a command was asked to write is there already, or cannot be written."""


class BundleError(QgfError):
    """A bundle is missing, damaged or of another schema version."""


class ContractError(QgfError):
    """A robot contract cannot be read or does not fit the bundle."""


class ObservationError(QgfError):
    """An observation cannot be assembled: a field is missing, stale, misshapen or not finite."""


class ParameterError(QgfError):
    """A node or a launch file was given a name it does not know, or a value of another type or range."""


class GuidanceError(QgfError):
    """The sampler was asked for something outside its domain, or a critic failed."""


class NotReadyError(GuidanceError):
    """The action chunk under way has run out, and the next one is still being inferred."""


class DatasetError(QgfError):
    """A data set is missing keys, has the wrong shapes or holds no usable transition."""


class TrainingError(QgfError):
    """A training run cannot start, go on or be exported."""


class SimulationError(QgfError):
    """The simulated environment was asked for something it does not have."""


class SafetyError(QgfError):
    """A command would leave the safety envelope in a way that clipping cannot mend."""


class StartError(SafetyError):
    """The first command would lie too far from where the robot is measured."""


class RecordingError(QgfError):
    """A recording cannot be written, read, replayed or turned into a data set."""


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return the end of a sentence about an unknown name: "; did you mean NEAREST?", or "" where nothing is near.

    Args:
        name: What was given.
        known: What could have been meant.
        likeness: How near that has to be, from 0 to 1, which is the same.
    """
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"; did you mean {nearest[0]}?" if nearest else ""
