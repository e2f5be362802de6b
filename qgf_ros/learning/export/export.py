"""From a checkpoint to a bundle: networks become ONNX primitives, proven equal to torch before they are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from qgf_ros.bundle.aggregation import deviations, member_weights
from qgf_ros.bundle.demonstrations import Demonstrations
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.layers import Layer
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import critic_file, write_bundle
from qgf_ros.errors import TrainingError
from qgf_ros.learning.algorithms import DEFAULT_ALGORITHM, algorithm_named
from qgf_ros.learning.algorithms.algorithm import ExportedPolicy, Problem
from qgf_ros.learning.algorithms.networks import (
    EMBEDDING_PERIOD,
    CriticNetwork,
    StackedMLP,
    VelocityNetwork,
    embedding_frequencies,
)
from qgf_ros.learning.checkpoint import latest_checkpoint, load_checkpoint
from qgf_ros.learning.data.normalisation import FROM_DATA
from qgf_ros.learning.export.primitives import critic_graph, velocity_graph
from qgf_ros.learning.trainer import TrainingConfig

#: Largest difference between torch and ONNX Runtime that an export may show.
TOLERANCE = 1e-4
_PARITY_ROWS = 256


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
    path = latest_checkpoint(run)
    if path is None:
        raise TrainingError(f"{run} holds no checkpoint; give the --out folder of 'qgf train'")
    tensors, header = load_checkpoint(path)
    config = TrainingConfig.from_dict(header["config"])
    observation = tuple(ObservationField.model_validate(field) for field in header["observation"])
    action = tuple(ActionField.model_validate(field) for field in header["action"])
    sizes = sum(field.size for field in observation), len(action) * config.horizon
    chosen = _with_members(_policy(tensors, header, sizes, policy, path), members, aggregate)
    files, parity = export_networks(
        chosen.velocity, chosen.critic, list(chosen.critics), sizes, aggregation=chosen.aggregation
    )
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
        training=_training_record(header, int(tensors["step"])),
        demonstrations=_demonstrations(header),
        parity=parity,
    )
    return write_bundle(out, manifest, files)


def _training_record(header: dict[str, Any], step: int) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: header[key]
        for key in ("algorithm", "reward", "goal_tolerances", FROM_DATA, "dataset", "hardware", "versions")
        if key in header
    }
    return {"updates": step, "config": header["config"], **kept}


def _demonstrations(header: dict[str, Any]) -> Demonstrations | None:
    """Return what the training data were like; older runs did not keep it."""
    found = header.get("demonstrations")
    return None if found is None else Demonstrations.model_validate(found)


def _policy(
    tensors: dict[str, torch.Tensor], header: dict[str, Any], sizes: tuple[int, int], name: str | None, path: Path
) -> ExportedPolicy:
    """Return what the algorithm of a checkpoint makes of it: the policy of a name, or the only one."""
    algorithm = header.get("algorithm", DEFAULT_ALGORITHM)
    kind = algorithm_named(algorithm)
    config = kind.config_class.from_dict(header["config"])
    trained = kind(config, Problem(tuple(header["critics"]), *sizes), torch.Generator())
    try:
        trained.load_tensors(tensors)
    except RuntimeError as error:
        raise TrainingError(f"{path} does not fit its own header ({error}); train again") from error
    policies = trained.policies()
    if name is None and len(policies) == 1:
        (name,) = policies
    if name is None or name not in policies:
        asked = "no policy" if name is None else f"policy {name!r}"
        raise TrainingError(
            f"{asked} was given; {algorithm} makes {', '.join(policies) or 'none'}; give one of them as --policy"
        )
    return policies[name]


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
    velocity: VelocityNetwork,
    critic: CriticNetwork,
    names: list[str],
    sizes: tuple[int, int],
    *,
    aggregation: str = "min",
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the primitives of a bundle and their largest differences from torch.

    Args:
        velocity: The velocity field.
        critic: The (target) critics, one task per name.
        names: Critic names.
        sizes: Observation size S and chunk size C.
        aggregation: How the members of a critic become one value.

    Returns:
        File contents by path, and parity errors by path and output.

    Raises:
        TrainingError: A difference exceeds `TOLERANCE`.
    """
    frequencies = embedding_frequencies().numpy()
    layers = mlp_layers(velocity.mlp, 0)
    files = {
        "velocity.onnx": velocity_graph(layers, *sizes, frequencies, EMBEDDING_PERIOD, vjp=False),
        "velocity_vjp.onnx": velocity_graph(layers, *sizes, frequencies, EMBEDDING_PERIOD, vjp=True),
    }
    for task, name in enumerate(names):
        members = [mlp_layers(critic.mlp, task * critic.ensemble + e) for e in range(critic.ensemble)]
        files[critic_file(name)] = critic_graph(members, *sizes, aggregation)
    parity = _parity(files, velocity, critic, names, sizes, aggregation)
    # A difference that is no number is the worst there is.
    worst = max(parity, key=lambda key: np.nan_to_num(parity[key], nan=np.inf))
    if not parity[worst] <= TOLERANCE:
        raise TrainingError(
            f"{worst} differs from torch by {parity[worst]:.2e}, at most {TOLERANCE:g} is allowed; nothing was written"
        )
    return files, parity


def mlp_layers(mlp: StackedMLP, member: int) -> list[Layer]:
    """Return the layers of one member as NumPy arrays."""

    def array(parameter: torch.Tensor) -> Any:
        return parameter[member].detach().cpu().numpy()

    layers = []
    for number, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases)):
        if number < mlp.normed:
            norm = array(mlp.scales[number])[0], array(mlp.shifts[number])[0]
            layers.append(Layer(array(weight), array(bias)[0], *norm))
        else:
            layers.append(Layer(array(weight), array(bias)[0]))
    return layers


def _parity(
    files: dict[str, bytes],
    velocity: VelocityNetwork,
    critic: CriticNetwork,
    names: list[str],
    sizes: tuple[int, int],
    aggregation: str,
) -> dict[str, float]:
    """Compare every output with torch on random inputs; the graphs were built from weights and have seen none."""
    random = np.random.default_rng(20260612)
    s, a, u = (
        torch.from_numpy(random.standard_normal((_PARITY_ROWS, size), dtype=np.float32)) for size in (*sizes, sizes[1])
    )
    t = torch.from_numpy(random.integers(0, 11, _PARITY_ROWS).astype(np.float32) / 10.0)
    inputs = {"s": s.numpy(), "a": a.numpy(), "t": t.numpy()}

    leaf = a.clone().requires_grad_()
    v = velocity(s, leaf, t)
    (vjp,) = torch.autograd.grad(v, leaf, u)
    report = {"velocity.onnx/v": _difference(_run(files["velocity.onnx"], inputs)["v"], v)}
    outputs = _run(files["velocity_vjp.onnx"], {**inputs, "u": u.numpy()})
    report["velocity_vjp.onnx/v"] = _difference(outputs["v"], v)
    report["velocity_vjp.onnx/u_dv_da"] = _difference(outputs["u_dv_da"], vjp)

    a = a.clamp(-1.0, 1.0)
    for task, name in enumerate(names):
        outputs = _run(files[critic_file(name)], {"s": inputs["s"], "a": a.numpy()})
        leaf = a.clone().requires_grad_()
        q = critic(s, leaf)[task]
        # Members that tie to rounding may be ranked either way: each counts as much as the graph made it.
        weights = torch.from_numpy(member_weights(outputs["q"], aggregation))
        (gradient,) = torch.autograd.grad((q * weights).sum(), leaf)
        report[f"{critic_file(name)}/q"] = _difference(outputs["q"], q)
        report[f"{critic_file(name)}/dq_da"] = _difference(outputs["dq_da"], gradient)
    return report


def _run(model: bytes, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def _difference(ours: Any, reference: torch.Tensor) -> float:
    return float(np.abs(ours - reference.detach().numpy()).max())
