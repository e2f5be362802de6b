"""The peers are the same function as Algorithm 1 over the primitives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="random bundles and a peer need the train extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.analysis.compute import Case, cases
from qgf_ros.benchmark.latency import Schedule, draw_inputs
from qgf_ros.benchmark.peers import read_networks
from qgf_ros.benchmark.peers_jax import jax_peer
from qgf_ros.benchmark.peers_torch import torch_peer
from qgf_ros.benchmark.random_bundle import CRITIC, NetworkShape, write_random_bundle
from qgf_ros.benchmark.tick import TOLERANCE
from qgf_ros.bundle.store import critic_file, read_bundle, write_bundle
from qgf_ros.errors import BundleError
from qgf_ros.learning.export.primitives import critic_graph
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.weights import read_critic

WEIGHT = 2.0


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small random bundle: its files, weights, manifest and policy, and a few inputs."""
    bundle = tmp_path_factory.mktemp("bundles") / "r"
    manifest = write_random_bundle(bundle, NetworkShape(3, 32, 7, 2, 2, 3))
    return SimpleNamespace(
        bundle=bundle,
        manifest=manifest,
        networks=read_networks(bundle, CRITIC),
        policy=Policy.load(bundle),
        inputs=draw_inputs(Schedule(inputs=4), 7, 4, 4),
    )


def assert_same_function(subject: Any, case: Case, make: Callable[..., Any], **options: Any) -> None:
    weight = 0.0 if case.method == "bc" else WEIGHT
    act = make(subject.networks, case, weight, subject.manifest, CRITIC, 1, **options)
    moved = 0.0
    for observation, noises in subject.inputs:
        noise = noises[: case.candidates]
        (chunk,) = subject.policy.act(observation, noise[None], CRITIC, weight, case.guidance)
        np.testing.assert_allclose(act(observation, noise), chunk.actions.ravel(), rtol=0.0, atol=TOLERANCE)
        moved = max(moved, float(np.abs(chunk.actions - chunk.unguided).max()))
    assert case.method == "bc" or moved > 100 * TOLERANCE  # or the guidance could be missing


@pytest.mark.parametrize("case", cases((1, 4)), ids=str)
def test_torch_eager(subject: Any, case: Case) -> None:
    assert_same_function(subject, case, torch_peer, compiled=False)


@pytest.mark.slow
@pytest.mark.parametrize("case", [Case("qgf", 1), Case("qgf", 4)], ids=str)
def test_torch_compiled(subject: Any, case: Case) -> None:
    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    assert_same_function(subject, case, torch_peer, compiled=True)


@pytest.mark.parametrize("case", [Case("qgf", 1), Case("qgf_jacobian", 4)], ids=str)
def test_jax(subject: Any, case: Case) -> None:
    pytest.importorskip("jax", reason="the JAX peer needs the peers extra")
    assert_same_function(subject, case, jax_peer)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases((1, 4)), ids=str)
def test_jax_with_every_method(subject: Any, case: Case) -> None:
    pytest.importorskip("jax", reason="the JAX peer needs the peers extra")
    assert_same_function(subject, case, jax_peer)


def test_critics_may_be_averaged(subject: Any) -> None:
    """Against the reference over the same members: its gradient is that of one member where both are the same."""
    twin = subject.networks._replace(critic=[subject.networks.critic[0]] * 2)
    averaged = subject.manifest.critics[CRITIC].model_copy(update={"aggregation": "mean"})
    manifests = subject.manifest, subject.manifest.model_copy(update={"critics": {CRITIC: averaged}})
    observation, noise = subject.inputs[0]
    least, mean = (
        torch_peer(twin, Case("qgf", 4), WEIGHT, manifest, CRITIC, 1, compiled=False)(observation, noise)
        for manifest in manifests
    )
    np.testing.assert_allclose(mean, least, rtol=0.0, atol=1e-6)
    torn = torch_peer(subject.networks, Case("qgf", 4), WEIGHT, manifests[1], CRITIC, 1, compiled=False)
    assert np.abs(torn(observation, noise) - least).max() > 100 * TOLERANCE


@pytest.mark.parametrize("case", [Case("qgf", 4), Case("qgf_jacobian", 1)], ids=str)
def test_a_mean_less_deviations_is_the_bundle_s(subject: Any, tmp_path: Path, case: Case) -> None:
    """Four members, so that each counts differently."""
    first = write_random_bundle(tmp_path / "r", NetworkShape(3, 32, 7, 2, 2, 4))
    _, files = read_bundle(tmp_path / "r")
    members, sizes = read_critic(files[critic_file(CRITIC)]), (first.observation_size, first.chunk_size)
    graph = critic_graph(members, *sizes, "mean - 1.5 std")
    card = first.critics[CRITIC].model_copy(update={"aggregation": "mean - 1.5 std"})
    manifest = write_bundle(
        tmp_path / "lower",
        first.model_copy(update={"name": "lower", "critics": {CRITIC: card}}),
        {**files, critic_file(CRITIC): graph},
    )
    policy, networks = Policy.load(tmp_path / "lower"), read_networks(tmp_path / "lower", CRITIC)
    lower = SimpleNamespace(manifest=manifest, networks=networks, policy=policy, inputs=subject.inputs)
    assert_same_function(lower, case, torch_peer, compiled=False)


def test_the_time_embedding_is_tabulated_at_every_step(subject: Any) -> None:
    steps = subject.manifest.denoising_steps
    angles = 1e4 * np.arange(steps)[:, None] / steps * np.exp(-np.log(1e4) * np.arange(8) / 8)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(subject.networks.embedding, expected, atol=2e-3)  # float32, at angles of thousands


def test_graphs_of_another_origin_are_refused(subject: Any, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(subject.bundle / "velocity.onnx"))
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.replace("velocity.", "other.")
        for i, name in enumerate(node.output):
            node.output[i] = name.replace("velocity.", "other.")
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("velocity.", "other.")
    files = {name: (subject.bundle / name).read_bytes() for name in subject.manifest.files}
    write_bundle(tmp_path / "copy", subject.manifest, {**files, "velocity.onnx": model.SerializeToString()})
    with pytest.raises(BundleError, match="no peer can run it"):
        read_networks(tmp_path / "copy", CRITIC)
