"""ONNX graphs beside the networks they were made of, on random inputs: they were built from weights and have seen none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch

from qgf_ros.bundle.aggregation import member_weights
from qgf_ros.bundle.own_graphs import own_file
from qgf_ros.bundle.store import critic_file
from qgf_ros.guidance.names import CLASSIFIER_FREE, ROBUST
from qgf_ros.learning.algorithms.algorithm import ExportedVelocity
from qgf_ros.learning.algorithms.networks import CriticNetwork, StackedMLP, VelocityNetwork, time_embedding
from qgf_ros.learning.export.exported_sight import ExportedSight, encoder_inputs, encoder_outputs

_ROWS = 256


def primitive_parity(
    files: dict[str, bytes],
    velocity: ExportedVelocity,
    critic: CriticNetwork,
    names: list[str],
    sizes: tuple[int, int],
    aggregation: str,
) -> dict[str, float]:
    """Return the largest difference of every output of the primitives, by path and output.

    Args:
        files: The graphs, by path.
        velocity, critic, names, sizes, aggregation: What they were made of, as for `export.export_networks`.
    """
    s, a, u, t = _inputs(sizes)
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


def own_parity(
    files: dict[str, bytes],
    names: list[str],
    sizes: tuple[int, int],
    robust: StackedMLP | None,
    filtered: VelocityNetwork | None,
) -> dict[str, float]:
    """Return the same of what a bundle has beside its primitives.

    Args:
        files: The graphs, by path.
        names, sizes, robust, filtered: What they were made of, as for `export.export_networks`.
    """
    s, a, _, t = _inputs(sizes)
    inputs, report = {"s": s.numpy(), "a": a.numpy(), "t": t.numpy()}, {}
    for task, name in enumerate(names):
        if robust is not None:
            path, leaf = own_file(name, ROBUST), a.clone().requires_grad_()
            q = robust(torch.cat([s, leaf, time_embedding(t)], dim=-1))[task, :, 0]
            (gradient,) = torch.autograd.grad(q.sum(), leaf)
            outputs = _run(files[path], inputs)
            report[f"{path}/q"] = _difference(outputs["q"], q[None])
            report[f"{path}/dq_da"] = _difference(outputs["dq_da"], gradient)
        if filtered is not None:
            path = own_file(name, CLASSIFIER_FREE)
            report[f"{path}/v"] = _difference(_run(files[path], inputs)["v"], filtered(s, a, t))
    return report


def encoder_parity(sight: ExportedSight, header: dict[str, Any]) -> dict[str, float]:
    """Return the same of every encoder.

    Args:
        sight: With encoders.
        header: Of the checkpoint of its run.
    """
    inputs = encoder_inputs(header["encoder"]["pictures"], sight.state_size)
    return {
        f"{path}/z": _difference(_run(sight.files[path], inputs)["z"], encoder_outputs(encoder, inputs))
        for path, encoder in sight.encoders.items()
    }


def _inputs(sizes: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Return s [N, S], a [N, C], u [N, C] and t [N]."""
    random = np.random.default_rng(20260612)
    normal = [torch.from_numpy(random.standard_normal((_ROWS, size), dtype=np.float32)) for size in (*sizes, sizes[1])]
    return *normal, torch.from_numpy(random.integers(0, 11, _ROWS).astype(np.float32) / 10.0)


def _run(model: bytes, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def _difference(ours: Any, reference: torch.Tensor) -> float:
    return float(np.abs(ours - reference.detach().numpy()).max())
