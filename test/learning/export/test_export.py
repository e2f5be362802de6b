"""From checkpoint to bundle: equal to torch, or nothing is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.bundle.store import load_manifest  # noqa: E402
from qgf_ros.control.run_options import RunOptions  # noqa: E402
from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.algorithm import Problem  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlow  # noqa: E402
from qgf_ros.learning.algorithms.networks import CriticNetwork, VelocityStack  # noqa: E402
from qgf_ros.learning.algorithms.options import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from qgf_ros.learning.export import export  # noqa: E402
from qgf_ros.learning.trainer import TrainingConfig  # noqa: E402
from qgf_ros.runtime.policy import Policy  # noqa: E402

CONFIG, OPTIONS = TrainingConfig(horizon=2), IqlFlowConfig(hidden=(16, 16))
FIELD = {
    "name": "state",
    "topic": "state",
    "message_type": "std_msgs/msg/Float64MultiArray",
    "extraction": "data",
    "size": 4,
    "unit": "1",
}
ACTIONS = [{"name": n, "unit": "m", "scale": 0.1, "lower": -0.1, "upper": 0.1} for n in ("x", "y", "z")]


def make() -> IqlFlow:
    return IqlFlow(OPTIONS, Problem(("reach", "push"), 4, 6), torch.Generator().manual_seed(1))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    networks = make()
    with torch.no_grad():
        for parameter in networks.target.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    tensors: dict[str, Any] = networks.state_dict()
    header = {
        "config": {**CONFIG.to_dict(), **OPTIONS.to_dict()},
        "critics": ["reach", "push"],
        "tasks": ["reach the cup", "push the cup"],
        "task_ids": [None, None],
        "environment": None,
        "observation": [FIELD],
        "action": ACTIONS,
        "control_rate": 10.0,
    }
    save_checkpoint(tmp_path / "run", 9, {**tensors, "step": torch.tensor(9)}, header)
    return tmp_path / "run"


def test_an_exported_bundle_loads_and_acts(run: Path, tmp_path: Path) -> None:
    export.export_bundle(run, tmp_path / "mine")
    policy = Policy.load(tmp_path / "mine")
    RunOptions(0.1, "push", execution_horizon=2).resolve(policy.manifest)
    noise = np.random.default_rng(0).standard_normal((1, 3, 6), dtype=np.float32)
    (chunk,) = policy.act(np.zeros((1, 4), np.float32), noise, "push", 0.1)
    assert chunk.actions.shape == (2, 3)
    assert policy.manifest.name == "mine"
    assert policy.manifest.training["updates"] == 9


def test_a_bundle_is_known_as_that_of_a_checkpoint_and_of_no_other(run: Path, tmp_path: Path) -> None:
    (path,) = run.glob("*.safetensors")
    tensors, header = load_checkpoint(path)
    save_checkpoint(run, 9, tensors, {**header, "hardware": {"seconds": 1.25}})
    export.export_bundle(run, tmp_path / "mine", members=1)
    manifest = load_manifest(tmp_path / "mine")
    assert export.is_export(manifest, run)
    for changed in ({"hardware": {"seconds": 1.5}}, {"config": {**header["config"], "expectile": 0.7}}):
        save_checkpoint(run, 9, tensors, {**header, "hardware": {"seconds": 1.25}, **changed})
        assert not export.is_export(manifest, run)
    save_checkpoint(run, 10, {**tensors, "step": torch.tensor(10)}, header)
    assert not export.is_export(manifest, run)


def test_the_gradient_exported_is_that_of_the_target_critic(run: Path, tmp_path: Path) -> None:
    export.export_bundle(run, tmp_path / "mine")
    tensors, _ = load_checkpoint(next(run.glob("*.safetensors")))
    networks = make()
    networks.target.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("target.")})
    s, a = torch.randn(8, 4), torch.rand(8, 6, requires_grad=True)
    (expected,) = torch.autograd.grad(networks.target(s, a)[1].amin(dim=0).sum(), a)
    policy = Policy.load(tmp_path / "mine")
    _, gradient = policy._critics["push"].given(s.numpy()).value_and_grad(a.detach().numpy())
    np.testing.assert_allclose(gradient, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(("members", "aggregate"), [(1, None), (3, "mean - 0.5 std"), (2, "mean"), (None, "min")])
def test_a_bundle_has_the_members_and_the_aggregate_that_were_asked_for(
    run: Path, tmp_path: Path, members: int | None, aggregate: str | None
) -> None:
    """The first members of each critic, put together as asked; by default all, and as they were in training."""
    networks = IqlFlow(
        replace(OPTIONS, ensemble=4, aggregate="mean - 1 std"),
        Problem(("reach", "push"), 4, 6),
        torch.Generator().manual_seed(1),
    )
    _, header = load_checkpoint(next(run.glob("*.safetensors")))
    header = {**header, "config": {**CONFIG.to_dict(), **networks.config.to_dict()}}
    save_checkpoint(run, 10, {**networks.state_dict(), "step": torch.tensor(10)}, header)
    manifest = export.export_bundle(run, tmp_path / "mine", members=members, aggregate=aggregate)
    way, count = aggregate or "mean - 1 std", members or 4
    assert {(card.ensemble_size, card.aggregation) for card in manifest.critics.values()} == {(count, way)}
    assert manifest.training["config"]["ensemble"] == 4
    s, a = torch.randn(8, 4), torch.rand(8, 6, requires_grad=True)
    value = networks.target(s, a)[1][:count]
    spread = value.std(dim=0, correction=0) if count > 1 else 0.0
    rho = {"mean - 1 std": 1.0, "mean - 0.5 std": 0.5}.get(way, 0.0)
    together = value.amin(dim=0) if way == "min" else value.mean(dim=0) - rho * spread
    (expected,) = torch.autograd.grad(together.sum(), a)
    critic = Policy.load(tmp_path / "mine")._critics["push"]
    q, gradient = critic.given(s.numpy()).value_and_grad(a.detach().numpy())
    np.testing.assert_allclose(q, value.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(critic.aggregate(q), together.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(gradient, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"members": 3}, "3 members were given; each critic of the run has 2, give 1 to 2"),
        ({"members": 0}, "0 members were given"),
        ({"aggregate": "max"}, "aggregation 'max' was given; expected min, mean, or mean - RHO std"),
    ],
)
def test_members_that_are_not_there_and_unknown_aggregates_are_refused(
    run: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TrainingError, match=sentence):
        export.export_bundle(run, tmp_path / "mine", **options)
    assert not (tmp_path / "mine").exists()


def test_the_parity_report_covers_every_output(run: Path, tmp_path: Path) -> None:
    manifest = export.export_bundle(run, tmp_path / "mine")
    assert set(manifest.parity) == {
        "velocity.onnx/v",
        "velocity_vjp.onnx/v",
        "velocity_vjp.onnx/u_dv_da",
        *(f"critics/{c}/q_grad.onnx/{o}" for c in ("reach", "push") for o in ("q", "dq_da")),
    }
    assert 0.0 < max(manifest.parity.values()) <= 1e-4
    assert load_manifest(tmp_path / "mine").parity == manifest.parity


def test_an_export_that_differs_from_torch_writes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_layers = export.mlp_layers

    def perturbed(mlp: Any, member: int) -> Any:
        layers = true_layers(mlp, member)
        layers[0].weight[0, 0] += 0.05
        return layers

    monkeypatch.setattr(export, "mlp_layers", lambda mlp, member: perturbed(mlp_copy(mlp), member))
    with pytest.raises(TrainingError, match="differs from torch by .* nothing was written"):
        export.export_bundle(run, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def mlp_copy(mlp: Any) -> Any:
    import copy

    return copy.deepcopy(mlp)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        export.export_bundle(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("sinusoidal", [True, False])
def test_a_member_of_a_stack_of_any_form_is_exported_as_torch_has_it(norm: bool, sinusoidal: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    stack = VelocityStack(2, 4, 6, (16, 16), generator, norm=norm, sinusoidal=sinusoidal)
    critic = CriticNetwork(2, 2, 4, 6, (16, 16), generator)
    _, parity = export.export_networks(stack.member(1), critic.task(1), ["push"], (4, 6))
    assert len(parity) == 5
    assert max(parity.values()) < 1e-4
