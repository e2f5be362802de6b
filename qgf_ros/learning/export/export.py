"""From a checkpoint to a bundle: networks become ONNX primitives, proven equal to torch before they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qgf_ros.bundle.aggregation import deviations
from qgf_ros.bundle.demonstrations import Demonstrations
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.own_graphs import own_file
from qgf_ros.bundle.store import critic_file, write_bundle
from qgf_ros.errors import TrainingError
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST
from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, ExportedVelocity, Problem, TakenCritics
from qgf_ros.learning.algorithms.catalogue import DEFAULT_ALGORITHM, algorithm_named
from qgf_ros.learning.algorithms.networks import (
    EMBEDDING_PERIOD,
    CriticNetwork,
    StackedMLP,
    VelocityNetwork,
    embedding_frequencies,
)
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.data.normalisation import FROM_DATA
from qgf_ros.learning.export.actor_graphs import graph_of_velocity, mlp_layers
from qgf_ros.learning.export.exported_sight import ExportedSight, exported_sight
from qgf_ros.learning.export.parity import encoder_parity, own_parity, primitive_parity
from qgf_ros.learning.export.primitives import critic_graph, noised_critic_graph
from qgf_ros.learning.trainer import TrainingConfig

#: Largest difference between torch and ONNX Runtime that an export may show.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Trained:
    """What the newest checkpoint of a training folder holds."""

    step: int
    header: dict[str, Any]
    config: TrainingConfig
    observation: tuple[ObservationField, ...]
    action: tuple[ActionField, ...]
    sizes: tuple[int, int]
    sight: ExportedSight
    policies: Mapping[str, ExportedPolicy]

    @classmethod
    def read(cls, run: Path) -> _Trained:
        tensors, header = _newest(run)
        config = TrainingConfig.from_dict(header["config"])
        observation = tuple(ObservationField.model_validate(field) for field in header["observation"])
        action = tuple(ActionField.model_validate(field) for field in header["action"])
        state_size = sum(field.size for field in observation)
        sight = exported_sight(run, tensors, header, state_size)
        sizes = sight.features + state_size, len(action) * config.horizon
        kind = algorithm_named(header.get("algorithm", DEFAULT_ALGORITHM))
        taken = TakenCritics.from_dict(header["critics_from"]) if "critics_from" in header else None
        problem = Problem(tuple(header["critics"]), *sizes, taken)
        trained = kind(kind.config_class.from_dict(header["config"]), problem, torch.Generator())
        try:
            trained.load_tensors(tensors)
        except RuntimeError as error:
            raise TrainingError(
                f"the checkpoint of {run} does not fit its own header ({error}); train again"
            ) from error
        return cls(int(tensors["step"]), header, config, observation, action, sizes, sight, trained.policies())

    def policy(self, name: str | None) -> ExportedPolicy:
        """Return the policy of a name, or the only one."""
        if name is None and len(self.policies) == 1:
            (name,) = self.policies
        if name is None or name not in self.policies:
            asked = "no policy" if name is None else f"policy {name!r}"
            raise TrainingError(
                f"{asked} was given; {self.header.get('algorithm', DEFAULT_ALGORITHM)} makes "
                f"{', '.join(self.policies) or 'none'}; give one of them as --policy"
            )
        return self.policies[name]


def export_bundle(
    run: Path,
    out: Path,
    *,
    policy: str | None = None,
    members: int | None = None,
    aggregate: str | None = None,
    description: str = "",
    licence: str = "Apache-2.0",
) -> Manifest:
    """Export a policy of the newest checkpoint of a training folder.

    Args:
        run: Folder written by training.
        out: Folder of the new bundle; its name becomes the bundle's.
        policy: Which of the policies that the run's algorithm makes; needed where it makes several.
        members: How many members of each critic go with it, the first ones; None for all.
        aggregate: How they become one value, see `bundle.aggregation`; None for the run's own way.
        description, licence: For the manifest.

    Returns:
        The manifest, parity report included.

    Raises:
        TrainingError: There is no checkpoint, it does not fit its header, its algorithm, the policy or the aggregation is
            not known, there are not as many members, or ONNX Runtime differs from torch by more than `TOLERANCE`.
        BundleError: The folder cannot be written.
    """
    found = _Trained.read(run)
    header, config, observation, action = found.header, found.config, found.observation, found.action
    chosen = _with_members(found.policy(policy), members, aggregate)
    files, parity = export_networks(
        chosen.velocity,
        chosen.critic,
        list(chosen.critics),
        found.sizes,
        aggregation=chosen.aggregation,
        robust=chosen.robust,
        filtered=chosen.filtered,
    )
    if found.sight.encoders:
        files |= found.sight.files
        parity |= _held(encoder_parity(found.sight, header))
    about = {name: pair for name, *pair in zip(header["critics"], header["tasks"], header["task_ids"])}
    manifest = Manifest(
        name=out.name,
        description=description or header.get("description", ""),
        licence=licence,
        environment=header.get("environment"),
        observation=observation,
        goal=header.get("goal"),
        goal_fields=tuple(header.get("goal_tolerances", ())),
        action=action,
        horizon=config.horizon,
        execution_horizon=config.horizon,
        control_rate=header["control_rate"],
        denoising_steps=chosen.denoising_steps,
        critics={
            name: CriticCard(
                task=about[name][0],
                task_id=about[name][1],
                discount=config.discount,
                ensemble_size=chosen.critic.ensemble,
                aggregation=chosen.aggregation,
            )
            for name in chosen.critics
        },
        training=_training_record(header, found.step, chosen.about),
        demonstrations=_demonstrations(header),
        parity=parity,
        **found.sight.manifest,
    )
    return write_bundle(out, manifest, files)


def policy_names(run: Path) -> list[str]:
    """Return the policies that the newest checkpoint of a training folder makes, the usual one first.

    Raises:
        TrainingError: There is no checkpoint, it does not fit its header, or its algorithm is not known.
    """
    return list(_Trained.read(run).policies)


def is_export(manifest: Manifest, run: Path) -> bool:
    """Return whether a bundle is one of those that the newest checkpoint of a training folder makes.

    Raises:
        TrainingError: There is no checkpoint, or it cannot be read.
    """
    tensors, header = _newest(run)
    about = str(manifest.training.get("policy", ""))
    return manifest.training == _training_record(header, int(tensors["step"]), about)


def _newest(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return tensors and header of the newest checkpoint of a training folder."""
    path = latest_checkpoint(run)
    if path is None:
        raise TrainingError(f"{run} holds no checkpoint; give the --out folder of 'qgf train'")
    return load_checkpoint(path)


def _training_record(header: dict[str, Any], step: int, about: str) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: header[key]
        for key in (
            *("algorithm", "reward", "goal_tolerances", FROM_DATA),
            *("dataset", "rendering", "encoder", "critic_encoder", "velocity_field", "critics_from", "held_out"),
            *("hardware", "versions"),
        )
        if key in header
    }
    said = {"policy": about} if about else {}
    return {"updates": step, **said, "config": header["config"], **kept}


def _demonstrations(header: dict[str, Any]) -> Demonstrations | None:
    """Return what the training data were like; older runs did not keep it."""
    found = header.get("demonstrations")
    return None if found is None else Demonstrations.model_validate(found)


def _with_members(policy: ExportedPolicy, members: int | None, aggregate: str | None) -> ExportedPolicy:
    """Return a policy whose critics have that many members, put together in that way."""
    aggregation = policy.aggregation if aggregate is None else aggregate
    try:
        deviations(aggregation)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    critic, most = policy.critic, policy.critic.ensemble
    if members is not None and not 1 <= members <= most:
        raise TrainingError(f"{members} members were given; each critic of the run has {most}, give 1 to {most}")
    if members is not None and members < most:
        critic = critic.first_members(members)
    return replace(policy, critic=critic, aggregation=aggregation)


def export_networks(
    velocity: ExportedVelocity,
    critic: CriticNetwork,
    names: list[str],
    sizes: tuple[int, int],
    *,
    aggregation: str = "min",
    robust: StackedMLP | None = None,
    filtered: VelocityNetwork | None = None,
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the primitives of a bundle and their largest differences from torch.

    Args:
        velocity: The velocity field.
        critic: The (target) critics, one task per name.
        names: Critic names.
        sizes: Observation size S and chunk size C.
        aggregation: How the members of a critic become one value.
        robust, filtered: As in `ExportedPolicy`.

    Returns:
        File contents by path, and parity errors by path and output.

    Raises:
        TrainingError: A difference exceeds `TOLERANCE`.
    """
    files = {
        "velocity.onnx": graph_of_velocity(velocity, *sizes, vjp=False),
        "velocity_vjp.onnx": graph_of_velocity(velocity, *sizes, vjp=True),
    }
    for task, name in enumerate(names):
        members = [mlp_layers(critic.mlp, task * critic.ensemble + e) for e in range(critic.ensemble)]
        files[critic_file(name)] = critic_graph(members, *sizes, aggregation)
        if robust is not None:
            noised, frequencies = mlp_layers(robust, task), embedding_frequencies().numpy()
            files[own_file(name, ROBUST)] = noised_critic_graph(noised, *sizes, frequencies, EMBEDDING_PERIOD)
        if filtered is not None:
            files[own_file(name, CLASSIFIER_FREE)] = graph_of_velocity(filtered, *sizes, vjp=False)
    parity = primitive_parity(files, velocity, critic, names, sizes, aggregation)
    parity |= own_parity(files, names, sizes, robust, filtered)
    return files, _held(parity)


def _held(parity: dict[str, float]) -> dict[str, float]:
    """Return differences from torch that are all small enough; raises TrainingError."""
    # A difference that is no number is the worst there is.
    worst = max(parity, key=lambda key: np.nan_to_num(parity[key], nan=np.inf))
    if not parity[worst] <= TOLERANCE:
        raise TrainingError(
            f"{worst} differs from torch by {parity[worst]:.2e}, at most {TOLERANCE:g} is allowed; nothing was written"
        )
    return parity
