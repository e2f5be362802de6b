"""The training algorithms, one file each: networks, losses, configuration and what is exported; `ALGORITHMS` names them.

Stands on: bundle, errors, learning.data. Libraries: torch.
"""

from __future__ import annotations

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm
from qgf_ros.learning.algorithms.iql_flow import IqlFlow

#: Every algorithm by the name that `qgf train --algorithm` and a checkpoint's header give it.
ALGORITHMS: dict[str, type[Algorithm]] = {"iql_flow": IqlFlow}
#: What is trained where nothing is said, and what trained a checkpoint whose header does not say.
DEFAULT_ALGORITHM = "iql_flow"


def algorithm_named(name: str) -> type[Algorithm]:
    """Return an algorithm.

    Raises:
        TrainingError: There is none of this name.
    """
    if name not in ALGORITHMS:
        raise TrainingError(f"algorithm {name!r} was given; expected {' or '.join(sorted(ALGORITHMS))}")
    return ALGORITHMS[name]
