"""From a published checkpoint to a bundle: the published function, or nothing is written."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="building graphs needs the train extra")

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.store import load_manifest
from qgf_ros.cli import main
from qgf_ros.errors import TrainingError
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.learning.data.contract import Contract
from qgf_ros.learning.published import import_checkpoint as conversion
from qgf_ros.runtime.policy import Policy

ROOT = Path(__file__).resolve().parents[3]
OBSERVATION, ACTION = 4, 2
#: Horizon, and whether the time embedding is sinusoidal.
SHAPES = [(1, True), (5, True), (5, False)]


def reference_of(agent: dict[str, Any]) -> Any:
    """Return the float64 sampler of the comparison script."""
    spec = importlib.util.spec_from_file_location("float64_reference", ROOT / "scripts/float64_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reference(agent)


def contract(observation: int = OBSERVATION, action: int = ACTION) -> Contract:
    field = ObservationField(
        name="state",
        topic="state",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=observation,
        unit="1",
    )
    actions = (ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(action))
    return Contract((field,), tuple(actions), 20.0)


@pytest.fixture
def convert(published: SimpleNamespace, tmp_path: Path) -> Callable[..., Any]:
    """Import an agent's state into the bundle `mine`."""

    def run(agent: dict[str, Any], **options: Any) -> Any:
        options = {"critic": "reach", "task": "reach the cup", **options}
        return conversion.import_checkpoint(published.write(agent), tmp_path / "mine", contract(), **options)

    return run


@pytest.mark.parametrize(("horizon", "sinusoidal"), SHAPES)
@pytest.mark.parametrize("method", ["qgf", "qgf_jacobian", "noisy", "grad_step"])
def test_actions_are_those_of_the_published_sampler(
    published: SimpleNamespace, convert: Any, tmp_path: Path, horizon: int, sinusoidal: bool, method: str
) -> None:
    agent = published.agent(chunk=horizon * ACTION, sinusoidal=sinusoidal)
    convert(agent, horizon=horizon)
    policy, reference = Policy.load(tmp_path / "mine"), reference_of(agent)
    random = np.random.default_rng(3)
    rows, n = 8, 4
    s = random.standard_normal((rows, OBSERVATION), dtype=np.float32)
    noise = random.standard_normal((rows, n, horizon * ACTION), dtype=np.float32)
    for weight in (0.0, 0.01, 0.1, 1.0):
        candidates, _ = reference.sample(
            np.repeat(s, n, axis=0), noise.reshape(rows * n, -1), method, weight, ascent_steps=3
        )
        q = reference.critic(np.repeat(s, n, axis=0), candidates)[0].reshape(rows, n)
        candidates = candidates.reshape(rows, n, -1)
        guidance = Guidance(estimator=method, ascent_steps=3)
        for kept, given in ((np.zeros(rows, int), noise[:, :1]), (q.argmax(axis=1), noise)):
            chunks = policy.act(s, given, "reach", weight, guidance)
            actions = np.stack([chunk.actions.ravel() for chunk in chunks])
            difference = np.abs(actions - candidates[np.arange(rows), kept])
            assert np.median(difference) <= 2e-5
            assert difference.max() <= 5e-5


def test_guidance_at_weight_1_is_no_rounding_error(published: SimpleNamespace) -> None:
    """Otherwise the test above would hold for any gradient."""
    reference = reference_of(published.agent())
    random = np.random.default_rng(3)
    s, noise = random.standard_normal((8, OBSERVATION)), random.standard_normal((8, ACTION))
    actions = [
        reference.sample(s, noise, "qgf", 0.0)[0],
        *(reference.sample(s, noise, method, 1.0)[0] for method in ("qgf", "qgf_jacobian", "noisy", "grad_step")),
    ]
    for i, first in enumerate(actions):
        for second in actions[:i]:
            assert np.median(np.abs(first - second)) > 1e-3


@pytest.mark.parametrize("sinusoidal", [True, False])
def test_the_reference_differentiates_itself_correctly(published: SimpleNamespace, sinusoidal: bool) -> None:
    reference = reference_of(published.agent(sinusoidal=sinusoidal))
    random = np.random.default_rng(3)
    s, a, u = (random.standard_normal((6, size)) for size in (OBSERVATION, ACTION, ACTION))
    _, pullback = reference.velocity(s, a, 0.3)
    by_velocity = conversion.central_differences(lambda x: (reference.velocity(s, x, 0.3)[0] * u).sum(axis=1), a)
    np.testing.assert_allclose(pullback(u), by_velocity, atol=1e-7)
    by_critic = conversion.central_differences(lambda x: reference.critic(s, x)[0], a)
    np.testing.assert_allclose(reference.critic(s, a)[1], by_critic, atol=1e-7)


@pytest.mark.parametrize("aggregation", ["min", "mean"])
@pytest.mark.parametrize("ensemble", [1, 3])
def test_the_ensemble_is_aggregated_as_told(
    published: SimpleNamespace, convert: Any, tmp_path: Path, aggregation: str, ensemble: int
) -> None:
    manifest = convert(published.agent(ensemble=ensemble, norm=False), aggregation=aggregation)
    card = manifest.critics["reach"]
    assert (card.ensemble_size, card.aggregation) == (ensemble, aggregation)
    critic = Policy.load(tmp_path / "mine")._critics["reach"]
    random = np.random.default_rng(3)
    s, a = (random.standard_normal((6, size), dtype=np.float32) for size in (OBSERVATION, ACTION))
    members = conversion.load_published(tmp_path / "params_7.pkl").target_critic
    reduce = np.min if aggregation == "min" else np.mean

    def value(x: Any) -> Any:
        inputs = np.concatenate([s, x], axis=1)
        return reduce([conversion.forward(layers, inputs)[:, 0] for layers in members], axis=0)

    q, gradient = critic.given(s).value_and_grad(a)
    assert q.shape == (ensemble, 6)
    np.testing.assert_allclose(critic.aggregate(q), value(a), atol=1e-5)
    np.testing.assert_allclose(gradient, conversion.central_differences(value, a), atol=1e-5)


def test_the_manifest_says_where_the_weights_come_from(
    published: SimpleNamespace, convert: Any, tmp_path: Path
) -> None:
    convert(published.agent(chunk=6), discount=0.999, denoising_steps=7, task_id=3, environment="cube-triple")
    manifest = load_manifest(tmp_path / "mine")
    assert (manifest.horizon, manifest.execution_horizon, manifest.denoising_steps) == (3, 3, 7)
    assert (manifest.environment, manifest.licence) == ("cube-triple", "NOASSERTION")
    card = manifest.critics["reach"]
    assert (card.task, card.task_id, card.discount) == ("reach the cup", 3, 0.999)
    assert (card.recommended_weight, card.evaluations) == (0.0, ())
    content = (tmp_path / "params_7.pkl").read_bytes()
    assert manifest.training["checkpoint"] == {
        "file": "params_7.pkl",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    assert manifest.training["updates"] == 7
    assert manifest.training["given_at_import"]["discount"] == 0.999
    outputs = ["velocity.onnx/v", "velocity_vjp.onnx/v", "velocity_vjp.onnx/u_dv_da"]
    outputs += [f"critics/reach/q_grad.onnx/{name}" for name in ("q", "dq_da")]
    assert list(manifest.parity) == outputs
    assert 0.0 < max(manifest.parity.values()) < 1e-5


@pytest.mark.parametrize("graph", ["velocity_graph", "critic_graph"])
def test_graphs_that_differ_from_the_weights_write_nothing(
    published: SimpleNamespace, convert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    right = getattr(conversion, graph)

    def wrong(layers: Any, *arguments: Any, **options: Any) -> bytes:
        members = [layers] if graph == "velocity_graph" else layers
        changed = [[*rest, replace(last, weight=last.weight * np.float32(1.001))] for *rest, last in members]
        model: bytes = right(changed[0] if graph == "velocity_graph" else changed, *arguments, **options)
        return model

    monkeypatch.setattr(conversion, graph, wrong)
    with pytest.raises(TrainingError, match="differs from a float64 network by .* nothing was written"):
        convert(published.agent())
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("agent", "options", "expected"),
    [
        ({"observation": 5}, {}, "takes observations of size 5, the environment has 4"),
        ({"chunk": 6}, {"horizon": 2}, "makes chunks of 6 numbers, --horizon 2 of 2 each makes 4"),
        ({"chunk": 5}, {}, "makes chunks of 5 numbers, an action has 2"),
        ({}, {"discount": 1.5}, "discount 1.5 was given"),
        ({}, {"denoising_steps": 0}, "denoising_steps 0 was given"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    published: SimpleNamespace, convert: Any, tmp_path: Path, agent: Any, options: Any, expected: str
) -> None:
    with pytest.raises(TrainingError, match=expected) as error:
        convert(published.agent(**agent), **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "mine").exists()


def test_neither_jax_nor_torch_is_needed() -> None:
    script = "import sys, qgf_ros.learning.published.import_checkpoint; print(*({'jax', 'flax', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == []


@pytest.fixture
def cube_checkpoint(published: SimpleNamespace) -> str:
    pytest.importorskip("ogbench", reason="the contract of cube-single needs the sim extra")
    return str(published.write(published.agent(observation=28, chunk=25)))


def test_the_command_makes_a_bundle_of_an_environment(
    cube_checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cube"
    arguments = ["import-checkpoint", cube_checkpoint, "--env", "cube-single", "--horizon", "5", "--task", "4"]
    assert main([*arguments, "--aggregation", "mean", "--out", str(out)]) == 0
    manifest = load_manifest(out)
    assert (manifest.environment, manifest.horizon, manifest.action_size) == ("cube-single", 5, 5)
    assert {name: card.task_id for name, card in manifest.critics.items()} == {"task4": 4}
    assert manifest.critics["task4"].aggregation == "mean"
    said = capsys.readouterr().out
    assert "largest difference from a float64 network" in said
    assert "discount 0.99" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--env", "cube-nonuple"], "cube-nonuple is unknown; the known ones are cube-single"),
        (["--env", "cube-single", "--horizon", "1"], "--horizon 1 of 5 each makes 5"),
        (["--env", "cube-single", "--activation", "relu"], "--activation relu was given; only .* gelu"),
        (["--env", "cube-single", "--task", "6"], "--task 6 was given; cube-single has tasks 1 to 5"),
    ],
)
def test_a_wrong_option_of_the_command_is_one_sentence(
    cube_checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    out = tmp_path / "cube"
    assert main(["import-checkpoint", cube_checkpoint, *options, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(expected, error)
    assert not out.exists()
