"""Every training algorithm by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qgf_ros.errors import TrainingError, did_you_mean
from qgf_ros.learning.algorithms.algorithm import Algorithm
from qgf_ros.learning.algorithms.cfgrl import Cfgrl
from qgf_ros.learning.algorithms.dac import Dac, Qsm
from qgf_ros.learning.algorithms.edp import Edp
from qgf_ros.learning.algorithms.fql import Fql
from qgf_ros.learning.algorithms.iql_flow import IqlFlow
from qgf_ros.learning.algorithms.options import OF_CRITICS, StoredConfig
from qgf_ros.learning.algorithms.qam import Qam
from qgf_ros.learning.algorithms.robust_q import RobustQ
from qgf_ros.learning.algorithms.td_critic import TdFlow

#: Every algorithm by the name that `qgf train --algorithm` and a checkpoint's header give it.
ALGORITHMS: dict[str, type[Algorithm]] = {
    "iql_flow": IqlFlow,
    "td_flow": TdFlow,
    "edp": Edp,
    "fql": Fql,
    "qam": Qam,
    "dac": Dac,
    "qsm": Qsm,
    "cfgrl": Cfgrl,
    "robust_q": RobustQ,
}
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


def configured(
    name: str, given: Mapping[str, Any], instead: Mapping[str, Any] | None = None, *, critics_train: bool = True
) -> StoredConfig:
    """Return an algorithm's configuration.

    Args:
        name: Of the algorithm.
        given: Some of its options by name; the others have its defaults.
        instead: What takes the place of options that it has; the rest is passed over.
        critics_train: Whether they do; else they are another run's, and their options are settled.

    Raises:
        TrainingError: There is no such algorithm, it has no such option, a value is outside its domain, or the option is
            of critics that do not train, or changes nothing beside the others.
    """
    kind = algorithm_named(name).config_class
    own = [field.name for field in fields(kind)]
    for option in given:
        if option not in own:
            flags = [_flag(one) for one in own]
            raise TrainingError(
                f"{_flag(option)} was given, which {name} does not have; its own are "
                f"{', '.join(flags)}{did_you_mean(_flag(option), flags)}"
            )
    settled = [_flag(option) for option in given if option in OF_CRITICS]
    if settled and not critics_train:
        raise TrainingError(
            f"{' and '.join(settled)} was given with --critics-from, whose critics are as they are; leave it out"
        )
    chosen = kind.from_dict({**given, **(instead or {})})
    for option in given:
        if why := chosen.without_effect(option):
            raise TrainingError(f"{_flag(option)} was given, but {why}; leave it out, or give another --backup")
    return chosen


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
