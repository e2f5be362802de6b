"""The fast path laid out for a GPU, run over fixed buffers on the CPU: the same actions, and what becomes of failures."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import read_bundle
from qgf_ros.errors import BundleError, GuidanceError
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.runtime import session
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.session import CPU, CUDA, TENSORRT, provider_options

fused = pytest.importorskip("qgf_ros.runtime.fused", reason="the fast path needs onnx")
proof = pytest.importorskip("qgf_ros.runtime.proof", reason="the fast path needs onnx")
binding = pytest.importorskip("qgf_ros.runtime.binding")

SHIPPED = Path(__file__).parents[2] / "models" / "cube-single"
CRITIC = "task2"


@pytest.fixture(scope="module")
def bundle() -> tuple[Manifest, Any]:
    """The shipped bundle with one critic and a short T, since each graph takes a while to load."""
    manifest, files = read_bundle(SHIPPED)
    return manifest.model_copy(update={"critics": {CRITIC: manifest.critics[CRITIC]}, "denoising_steps": 2}), files


@pytest.fixture(scope="module")
def samplers(bundle: Any) -> tuple[Any, Any]:
    """The fast path of the CPU, and that of a GPU with a CPU in its place."""
    manifest, files = bundle
    return fused.FusedSampler(files, manifest, 1), fused.DeviceSampler(files, manifest, 1, (CPU,))


def draw(manifest: Manifest, rows: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((rows, size), dtype=np.float32) for size in (manifest.observation_size, 5))


OPTIONS = Guidance(max_gradient_norm=0.4, disagreement_scale=0.3, schedule="cosine", mask=(1.0, 0.0, 1.0, 0.5, 1.0))


@pytest.mark.parametrize("guidance", [QGF, OPTIONS])
@pytest.mark.parametrize("weight", [(0.3,), (0.0, 0.5, 0.1), (0.2,) * 16])
@pytest.mark.parametrize("steps", [1, 10])
def test_laid_out_over_fixed_buffers_it_is_the_fast_path_to_the_bit(
    samplers: Any, bundle: Any, steps: int, weight: tuple[float, ...], guidance: Guidance
) -> None:
    """In float32, on one thread; both members' rows and rows of weight 0 among them."""
    s, noise = draw(bundle[0], len(weight))
    weights = np.array(weight, dtype=np.float32)
    expected, got = (one.given(s).guided(CRITIC, noise, weights, steps, guidance) for one in samplers)
    for name in ("action", "gradient_norm", "clip_fraction"):
        np.testing.assert_array_equal(getattr(got.sample, name), getattr(expected.sample, name))
    np.testing.assert_array_equal(got.unguided, expected.unguided)
    np.testing.assert_array_equal(got.q, expected.q)
    plain, laid_out = (one.given(s).plain(noise, steps) for one in samplers)
    np.testing.assert_array_equal(plain.action, laid_out.action)
    np.testing.assert_array_equal(got.sample.action[weights == 0.0], got.unguided[weights == 0.0])


def test_results_outlive_their_buffers_whatever_the_shapes(samplers: Any, bundle: Any) -> None:
    """Buffers are kept for so many shapes; the next runs write into them, not into what was returned."""
    expected, device = samplers
    rows = [*range(1, binding.KEPT + 3), 1]
    given = [draw(bundle[0], count, seed) for seed, count in enumerate(rows)]
    got = [device.given(s).plain(noise, 2).action for s, noise in given]
    for (s, noise), action in zip(given, got):
        np.testing.assert_allclose(action, expected.given(s).plain(noise, 2).action, atol=1e-6)


def test_what_is_not_finite_is_found(samplers: Any, bundle: Any) -> None:
    s, noise = draw(bundle[0], 2)
    s[1, 0] = np.nan
    with pytest.raises(GuidanceError, match="not finite"):
        samplers[1].given(s).guided(CRITIC, noise, np.array([0.1, 0.1], np.float32), 10, QGF)


def test_a_gpu_multiplies_in_full_precision_and_captures_where_it_may() -> None:
    assert provider_options(CUDA, capture=True) == {"use_tf32": "0", "enable_cuda_graph": "1"}
    assert provider_options(CUDA, capture=False) == {"use_tf32": "0", "enable_cuda_graph": "0"}
    assert provider_options(TENSORRT, capture=True) == {"trt_cuda_graph_enable": "1"}
    assert provider_options(CPU, capture=True) == {}
    assert [binding.device_of(name) for name in (CUDA, TENSORRT, CPU)] == ["cuda", "cuda", "cpu"]


def load(bundle: Any, providers: tuple[str, ...]) -> Any:
    manifest, files = bundle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime's own: it does not know the provider
        velocity, critic = OnnxVelocityField(files, (CPU,), 1), OnnxCritic(files, CRITIC, "min", (CPU,), 1)
        return proof.load_fused(files, manifest, velocity, {CRITIC: critic}, 1, providers=providers)


def test_where_a_gpu_cannot_run_the_fast_path_the_cpu_does(bundle: Any, caplog: pytest.LogCaptureFixture) -> None:
    """This ONNX Runtime has no CUDA, so its buffers cannot be had."""
    if CUDA in session.onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    caplog.set_level(logging.WARNING)
    loaded = load(bundle, (CUDA, CPU))
    assert (type(loaded), loaded.provider) == (fused.FusedSampler, CPU)
    first, second = (record.getMessage() for record in caplog.records if CUDA in record.getMessage()[: len(CUDA)])
    assert first.startswith(f"{CUDA} cannot capture the fast path; it goes on without replaying it")
    assert second.startswith(f"{CUDA} cannot run the fast path; the CPU does")


def test_a_graph_that_cannot_be_captured_is_run_anew_every_time(
    bundle: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def open_session(*arguments: Any, capture: bool = False, **options: Any) -> Any:
        if capture:
            raise BundleError("the graph has nodes of another provider")
        return session.open_session(*arguments, capture=False, **options)

    monkeypatch.setattr(fused, "open_session", open_session)
    monkeypatch.setattr(fused, "device_of", lambda provider: "cpu")
    loaded = load(bundle, (CUDA, CPU))
    assert (type(loaded), loaded.provider) == (fused.DeviceSampler, CUDA)
    assert "cannot capture the fast path" in caplog.text
    assert "cannot run the fast path" not in caplog.text
    policy = Policy(bundle[0], None, {}, loaded, CUDA)  # type: ignore[arg-type]
    assert policy.backend(CRITIC, "qgf") == f"fused fp32 on {CUDA}"
    assert policy.backend(CRITIC, "noisy") == f"primitives fp32 on {CUDA}"


class Stale(binding.BoundSession):  # type: ignore[misc, name-defined]
    """Replays what it captured, inputs included."""

    def __call__(self, feeds: Any, outputs: Any, *, capture: bool = True) -> Any:
        captured = self.__dict__.setdefault("captured", {})
        shapes = tuple(value.shape for value in feeds.values())
        if shapes not in captured:
            captured[shapes] = super().__call__(feeds, outputs)
        return captured[shapes]


def test_a_graph_that_is_replayed_with_old_inputs_is_not_used(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_session(model: Any, name: str, providers: Any, threads: int, **options: Any) -> Any:
        return session.open_session(model, name, (CPU,), threads)

    monkeypatch.setattr(fused, "open_session", open_session)
    monkeypatch.setattr(fused, "device_of", lambda provider: "cpu")
    assert type(load(bundle, (CUDA, CPU))) is fused.DeviceSampler
    monkeypatch.setattr(fused, "BoundSession", Stale)
    assert type(load(bundle, (CUDA, CPU))) is fused.FusedSampler


def test_a_gpu_is_proven_by_a_run_that_captures_and_one_that_replays_with_other_inputs(
    bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove, seeds = proof._prove, []

    def counted(sampler: Any, *arguments: Any, seed: int = 0, **options: Any) -> None:
        seeds.append(seed)
        prove(sampler, *arguments, seed=seed, **options)

    def open_session(model: Any, name: str, providers: Any, threads: int, **options: Any) -> Any:
        return session.open_session(model, name, (CPU,), threads)

    monkeypatch.setattr(proof, "_prove", counted)
    monkeypatch.setattr(fused, "open_session", open_session)
    monkeypatch.setattr(fused, "device_of", lambda provider: "cpu")
    assert type(load(bundle, (CUDA, CPU))) is fused.DeviceSampler
    assert len(seeds) == len(set(seeds)) == 2


def test_other_numbers_than_float32_are_converted_and_not_read_as_such(samplers: Any, bundle: Any) -> None:
    s, noise = draw(bundle[0], 2)
    got = samplers[1].given(s.astype(np.float64)).plain(np.asfortranarray(noise), 2)
    np.testing.assert_array_equal(got.action, samplers[1].given(s).plain(noise, 2).action)


@pytest.fixture
def warm_policy(bundle: Any) -> Policy:
    """Warmed up as the node does it for num_samples 3."""
    manifest, files = bundle
    velocity, critic = OnnxVelocityField(files, (CPU,), 1), OnnxCritic(files, CRITIC, "min", (CPU,), 1)
    policy = Policy(manifest, velocity, {CRITIC: critic}, fused.DeviceSampler(files, manifest, 1, (CPU,)))
    for samples in (1, 3):
        policy.warm_up(samples)
    return policy


@pytest.fixture
def captured(warm_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every allocation after the warm-up, whether a graph is captured over it."""
    allocate, found = binding.BoundSession._allocate, []

    def note(self: Any, feeds: Any, outputs: Any, graph: int) -> Any:
        found.append(graph > 0)
        return allocate(self, feeds, outputs, graph)

    monkeypatch.setattr(binding.BoundSession, "_allocate", note)
    return found


@pytest.mark.parametrize(("samples", "allocated"), [(1, 0), (3, 0), (2, 2)])
def test_no_tick_captures_a_graph_and_what_was_warmed_up_is_there(
    warm_policy: Policy, captured: list[bool], bundle: Any, samples: int, allocated: int
) -> None:
    s, noise = draw(bundle[0], samples)
    for weight in (0.0, 0.1, 0.0, 0.1):
        (chunk,) = warm_policy.act(s[:1], noise[None], CRITIC, weight)
        assert chunk.telemetry["critic_failed"] == 0.0
    assert captured == [False] * allocated
