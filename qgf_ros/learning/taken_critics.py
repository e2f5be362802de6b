"""Critics that a run takes from another one, so that several actors can be trained against the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms.algorithm import Algorithm, TakenCritics
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.resumption import identity_of

#: What the two runs must share, in their headers and in their configurations; names of critics apart.
_SHARED = (
    *("environment", "reward", "goal_tolerances", "goal", "observation", "action", "control_rate"),
    *("dataset", "cameras", "encoder", "critic_encoder"),
)
_SHARED_SETTINGS = ("horizon", "discount", "goal_conditioned")


@dataclass(frozen=True)
class CriticSource:
    """The critics of another run's newest checkpoint.

    Attributes:
        record: What the header of the run that takes them says: the checkpoint and its SHA-256, its algorithm, and their form.
        tensors: Of the networks that were asked for, for the tasks that were asked for.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, run: Path, kind: type[Algorithm], header: Mapping[str, Any]) -> CriticSource:
        """Read the critics that a run is to take.

        Args:
            run: Folder of the other run.
            kind: The algorithm that takes them.
            header: What the checkpoints of the run that takes them will say.

        Raises:
            TrainingError: The algorithm takes none, the folder holds no checkpoint, or the critics are of other data, of another
                contract, of other tasks or no critics of that kind.
        """
        if not kind.critic_networks:
            raise TrainingError(
                f"critics from {run} were given, but {header['algorithm']} trains nothing against critics; leave them out"
            )
        path = latest_checkpoint(run)
        if path is None:
            raise TrainingError(f"{run} holds no checkpoint to take critics from; give the --out folder of 'qgf train'")
        tensors, found = load_checkpoint(path)
        _check_fits(run, found, header)
        numbers = [found["critics"].index(name) for name in header["critics"]]
        form = found.get("critics_from", found["config"])
        record = {
            "checkpoint": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "algorithm": found.get("algorithm", DEFAULT_ALGORITHM),
            "hidden": form.get("critic_hidden") or form["hidden"],
            "ensemble": form["ensemble"],
            "aggregate": form.get("aggregate", "min"),
        }
        missing = set(kind.critic_networks) - {name.partition(".")[0] for name in tensors}
        if missing:
            raise TrainingError(
                f"{run} has no {' and no '.join(sorted(missing))} network, which {header['algorithm']} needs of its "
                "critics; give a run of another algorithm"
            )
        taken = {
            name: value.reshape(len(found["critics"]), -1, *value.shape[1:])[numbers].flatten(0, 1)
            for name, value in tensors.items()
            if name.partition(".")[0] in kind.critic_networks
        }
        return cls(record, taken)

    def form(self) -> TakenCritics:
        """Return what the critics are like."""
        return TakenCritics.from_dict(self.record)


def _check_fits(run: Path, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise TrainingError unless the critics of a run say of this one's data, contract and tasks what is so."""
    different = [key for key in _SHARED if identity_of(found, key) != identity_of(header, key)]
    config, asked = found["config"], header["config"]
    different += [
        f"{name} {config.get(name)} -> {asked[name]}"
        for name in _SHARED_SETTINGS
        if config.get(name, False) != asked[name]
    ]
    strangers = [name for name in header["critics"] if name not in found["critics"]]
    if strangers:
        different.append(f"critics {', '.join(strangers)}, it has {', '.join(found['critics'])}")
    if different:
        raise TrainingError(
            f"the critics of {run} are of another problem (different: {'; '.join(different)}); take them from a run of the "
            "same data, contract, horizon, discount and tasks"
        )
