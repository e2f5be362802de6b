"""From a published checkpoint to a bundle: networks become ONNX primitives, checked before they are written.

The check is against a float64 network written from its definition, and its central differences, on random inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from qgf_ros.bundle.layers import LAYER_NORM_EPS, Layer
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import critic_file, file_record, write_bundle
from qgf_ros.errors import TrainingError
from qgf_ros.learning.data.contract import Contract
from qgf_ros.learning.export.primitives import critic_graph, velocity_graph
from qgf_ros.learning.published.published_checkpoint import EMBEDDING_PERIOD, PublishedNetworks, load_published

#: Largest difference that an import may show, relative to the largest value of an output where that exceeds 1.
TOLERANCE = 1e-4
_PARITY_ROWS = 64
_DIFFERENCE = 1e-6
#: Most actions of a chunk, as in a manifest.
MOST_HORIZON = 1000
#: Most components by which a gradient is compared; of a longer chunk as many are drawn.
_MOST_COMPONENTS = 256

Double = NDArray[np.float64]


def import_checkpoint(
    path: Path,
    out: Path,
    contract: Contract,
    *,
    critic: str,
    task: str,
    task_id: int | None = None,
    environment: str | None = None,
    horizon: int | None = None,
    discount: float = 0.99,
    denoising_steps: int = 10,
    aggregation: Literal["min", "mean"] = "min",
    description: str = "",
    licence: str = "NOASSERTION",
) -> Manifest:
    """Make a bundle of a checkpoint of the published code.

    Guidance will follow the target critic, as in the published code.

    Args:
        path: ``params_STEP.pkl``.
        out: Folder of the new bundle; its name becomes the bundle's.
        contract: What the policy sees and does.
        critic: Name of the critic.
        task, task_id: What the critic was trained for.
        environment: Simulated environment it was trained in, if any.
        horizon: Actions per chunk H; by default what the arrays say.
        discount, denoising_steps, aggregation: Of the training run; the checkpoint does not hold them.
        description, licence: For the manifest.

    Returns:
        The manifest, parity report included.

    Raises:
        TrainingError: The checkpoint cannot be read, does not fit the contract or the horizon, or the graphs differ
            from the float64 network by more than `TOLERANCE`.
        BundleError: The folder cannot be written.
    """
    networks = load_published(path)
    horizon = _check(path, networks, contract, horizon)
    files, parity = primitives(networks, critic, aggregation)
    given = {"discount": discount, "denoising_steps": denoising_steps, "aggregation": aggregation, "activation": "gelu"}
    try:
        card = CriticCard(
            task=task,
            task_id=task_id,
            discount=discount,
            ensemble_size=len(networks.target_critic),
            aggregation=aggregation,
        )
        manifest = Manifest(
            name=out.name,
            description=description,
            licence=licence,
            environment=environment,
            observation=tuple(contract.observation),
            action=tuple(contract.action),
            horizon=horizon,
            execution_horizon=horizon,
            control_rate=contract.control_rate,
            denoising_steps=denoising_steps,
            critics={critic: card},
            training={
                "origin": "checkpoint of the published QGF code",
                "checkpoint": {"file": path.name, **file_record(path.read_bytes()).model_dump()},
                "updates": networks.updates,
                "given_at_import": given,
                "parity_reference": "float64 NumPy",
            },
            parity=parity,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrainingError(f"{where} {first['input']!r} was given: {first['msg']}; nothing was written") from error
    return write_bundle(out, manifest, files)


def primitives(
    networks: PublishedNetworks, critic: str, aggregation: Literal["min", "mean"]
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the primitives of a bundle and their differences from the float64 networks.

    Args:
        networks: From a checkpoint.
        critic: Name for the target critic.
        aggregation: How its members become one value.

    Returns:
        File contents by path, and the largest difference by path and output.

    Raises:
        TrainingError: A difference exceeds `TOLERANCE`.
    """
    sizes = networks.observation_size, networks.chunk_size
    embedding = networks.frequencies, EMBEDDING_PERIOD
    files = {
        "velocity.onnx": velocity_graph(networks.policy, *sizes, *embedding, vjp=False),
        "velocity_vjp.onnx": velocity_graph(networks.policy, *sizes, *embedding, vjp=True),
        critic_file(critic): critic_graph(networks.target_critic, *sizes, aggregation),
    }
    parity = _parity(files, networks, critic, aggregation)
    # A difference that is no number is the worst there is.
    worst = max(parity, key=lambda key: np.nan_to_num(parity[key], nan=np.inf))
    if not parity[worst] <= TOLERANCE:
        raise TrainingError(
            f"{worst} differs from a float64 network by {parity[worst]:.2e}, at most {TOLERANCE:g} is allowed; "
            "nothing was written"
        )
    return files, parity


def _check(path: Path, networks: PublishedNetworks, contract: Contract, horizon: int | None) -> int:
    """Return the horizon, if the arrays fit the contract."""
    observation, action = sum(field.size for field in contract.observation), len(contract.action)
    if networks.observation_size != observation:
        raise TrainingError(
            f"{path} takes observations of size {networks.observation_size}, the environment has {observation}; "
            "give the --env it was trained in"
        )
    found, rest = divmod(networks.chunk_size, action)
    if rest or found > MOST_HORIZON or found != (found if horizon is None else horizon):
        expected = (
            f"--horizon {horizon} of {action} each makes {horizon * action}"
            if horizon is not None
            else f"an action has {action} and a chunk at most {MOST_HORIZON} actions"
        )
        raise TrainingError(
            f"{path} makes chunks of {networks.chunk_size} numbers, {expected}; "
            "give the --horizon and --env it was trained with"
        )
    return found


def _parity(files: dict[str, bytes], networks: PublishedNetworks, critic: str, aggregation: str) -> dict[str, float]:
    """Return the largest difference from the float64 networks by file and output, on inputs no graph has seen."""
    random = np.random.default_rng(20260612)
    shape = _PARITY_ROWS, networks.chunk_size
    s = random.standard_normal((_PARITY_ROWS, networks.observation_size), dtype=np.float32)
    a, u = random.standard_normal(shape, dtype=np.float32), random.standard_normal(shape, dtype=np.float32)
    t = random.integers(0, 11, _PARITY_ROWS).astype(np.float32) / np.float32(10)

    def velocity(actions: Double) -> Double:
        return forward(networks.policy, np.concatenate([s, actions, _embedding(t, networks)], axis=1))

    v = velocity(a.astype(np.float64))
    outputs = _run(files["velocity_vjp.onnx"], {"s": s, "a": a, "t": t, "u": u})
    every = np.arange(networks.chunk_size)
    # From a generator of their own, so that the other inputs are the same whatever the length of a chunk.
    components = (
        every
        if len(every) <= _MOST_COMPONENTS
        else np.sort(np.random.default_rng(1).choice(every, _MOST_COMPONENTS, replace=False))
    )
    vjp = central_differences(lambda actions: (velocity(actions) * u).sum(axis=1), a, components)
    report = {
        "velocity.onnx/v": _difference(_run(files["velocity.onnx"], {"s": s, "a": a, "t": t})["v"], v),
        "velocity_vjp.onnx/v": _difference(outputs["v"], v),
        "velocity_vjp.onnx/u_dv_da": _difference(outputs["u_dv_da"][:, components], vjp),
    }

    def values(actions: Double) -> Double:
        x = np.concatenate([s, actions], axis=1)
        return np.stack([forward(layers, x)[:, 0] for layers in networks.target_critic])

    a = np.clip(a, -1.0, 1.0)
    outputs = _run(files[critic_file(critic)], {"s": s, "a": a})
    # Members that tie to rounding may be ranked either way: differentiate the one the graph ranked lowest.
    lowest = outputs["q"].argmin(axis=0)

    def aggregated(actions: Double) -> Double:
        q = values(actions)
        chosen: Double = q[lowest, np.arange(_PARITY_ROWS)] if aggregation == "min" else q.mean(axis=0)
        return chosen

    report[f"{critic_file(critic)}/q"] = _difference(outputs["q"], values(a.astype(np.float64)))
    dq_da = central_differences(aggregated, a, components)
    report[f"{critic_file(critic)}/dq_da"] = _difference(outputs["dq_da"][:, components], dq_da)
    return report


def forward(layers: Sequence[Layer], x: Double) -> Double:
    """Return what an MLP makes of inputs [N, I], in float64, from its definition."""
    for layer in layers[:-1]:
        x = x @ layer.weight.astype(np.float64) + layer.bias
        if layer.scale is not None and layer.shift is not None:
            centred = x - x.mean(axis=1, keepdims=True)
            x = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + LAYER_NORM_EPS)
            x = x * layer.scale + layer.shift
        x = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x * x * x)))
    out: Double = x @ layers[-1].weight.astype(np.float64) + layers[-1].bias
    return out


def _embedding(t: NDArray[np.float32], networks: PublishedNetworks) -> Double:
    """Return the time embedding of float32 times: the angles are rounded to float32, which is part of the function."""
    if networks.frequencies is None:
        return t[:, None].astype(np.float64)
    angles = (t[:, None] * np.float32(EMBEDDING_PERIOD) * networks.frequencies).astype(np.float64)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def central_differences(
    function: Callable[[Double], Double], a: NDArray[Any], components: NDArray[np.int_] | None = None
) -> Double:
    """Return the gradient by a [N, C] of a function that makes one value of each row [N]; by some of its components [N, K]."""
    point = a.astype(np.float64)
    chosen = np.arange(point.shape[1]) if components is None else components
    gradient = np.empty((len(point), len(chosen)))
    for k, i in enumerate(chosen):
        step = np.zeros_like(point)
        step[:, i] = _DIFFERENCE
        gradient[:, k] = (function(point + step) - function(point - step)) / (2.0 * _DIFFERENCE)
    return gradient


def _run(model: bytes, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def _difference(ours: Any, reference: Double) -> float:
    return float(np.abs(ours - reference).max() / max(1.0, np.abs(reference).max()))
