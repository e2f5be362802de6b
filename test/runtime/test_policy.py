"""The loaded bundle: weight 0, best-of-N, telemetry, and a critic that fails."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.store import read_bundle
from qgf_ros.errors import BundleError, GuidanceError
from qgf_ros.guidance.conditioning import Unconditioned
from qgf_ros.guidance.prefix import Prefix, make_prefix
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.session import CPU, choose_providers


class FailingCritic(Unconditioned):
    def __call__(self, a: Any) -> Any:
        raise RuntimeError("device lost")

    value_and_grad = __call__

    def aggregate(self, q: Any) -> Any:
        raise RuntimeError("device lost")


class NanCritic(FailingCritic):
    def __call__(self, a: Any) -> Any:
        return np.full((2, len(a)), np.nan, dtype=np.float32)

    def value_and_grad(self, a: Any) -> Any:
        return np.zeros((2, len(a)), dtype=np.float32), np.full_like(a, np.nan)

    def aggregate(self, q: Any) -> Any:
        return q.min(axis=0)


@pytest.fixture
def batch() -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((3, 28), dtype=np.float32), rng.standard_normal((3, 1, 25), dtype=np.float32)


def with_critic(policy: Policy, critic: Any) -> Policy:
    return Policy(policy.manifest, policy._velocity, dict.fromkeys(policy.manifest.critics, critic))


def actions(chunks: Any) -> Any:
    return np.stack([chunk.actions for chunk in chunks])


def test_weight_zero_is_bit_identical_to_the_plain_flow_and_runs_no_critic(
    tiny_policy: Policy, tiny_bundle: Path, batch: Any
) -> None:
    s, noise = batch
    chunks = with_critic(tiny_policy, FailingCritic()).act(s, noise, "task1", 0.0)
    flow = OnnxVelocityField(read_bundle(tiny_bundle)[1], [CPU], 1).given(s)
    plain = sample(flow, None, noise[:, 0])
    assert (actions(chunks).reshape(3, 25) == plain.action).all()
    assert all(np.isnan(chunk.telemetry["q"]) and chunk.telemetry["critic_failed"] == 0.0 for chunk in chunks)


def test_guided_action_is_the_sampler_s(tiny_policy: Policy, tiny_bundle: Path, batch: Any) -> None:
    s, noise = batch
    files = read_bundle(tiny_bundle)[1]
    flow, value = OnnxVelocityField(files, [CPU], 1).given(s), OnnxCritic(files, "task2", "min", [CPU], 1).given(s)
    expected = sample(flow, value, noise[:, 0], 0.3)
    got = tiny_policy.act(s, noise, "task2", 0.3)
    np.testing.assert_allclose(actions(got).reshape(3, 25), expected.action, atol=1e-5)
    np.testing.assert_allclose([c.telemetry["gradient_norm"] for c in got], expected.gradient_norm, rtol=1e-4)


def test_guidance_distance_is_the_largest_difference_from_the_unguided_twin(tiny_policy: Policy, batch: Any) -> None:
    s, noise = batch
    guided, plain = tiny_policy.act(s, noise, "task1", 0.5), tiny_policy.act(s, noise, "task1", 0.0)
    for chunk, twin in zip(guided, plain, strict=True):
        np.testing.assert_allclose(chunk.unguided, twin.actions, atol=1e-5)
        np.testing.assert_array_equal(twin.unguided, twin.actions)
    expected = np.abs(actions(guided) - actions(plain)).max(axis=(1, 2))
    np.testing.assert_allclose([c.telemetry["guidance_distance"] for c in guided], expected, atol=1e-5)
    assert expected.min() > 1e-3


def test_telemetry_q_is_that_of_the_action_returned(tiny_policy: Policy, tiny_bundle: Path, batch: Any) -> None:
    s, noise = batch
    critic = OnnxCritic(read_bundle(tiny_bundle)[1], "task1", "min", [CPU], 1)
    got = tiny_policy.act(s, noise, "task1", 0.2)
    expected = critic.given(s)(actions(got).reshape(3, 25)).min(axis=0)
    np.testing.assert_allclose([c.telemetry["q"] for c in got], expected, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_best_of_n_keeps_the_candidate_of_highest_value(tiny_policy: Policy, batch: Any, weight: float) -> None:
    s, _ = batch
    noise = np.random.default_rng(6).standard_normal((3, 8, 25), dtype=np.float32)
    best = tiny_policy.act(s, noise, "task1", weight)
    singles = [tiny_policy.act(s, noise[:, n : n + 1], "task1", weight) for n in range(8)]
    value = tiny_policy._critics["task1"].given(s)
    q = np.stack([value(actions(single).reshape(3, 25)).min(axis=0) for single in singles])
    np.testing.assert_allclose([c.telemetry["q"] for c in best], q.max(axis=0), atol=1e-5)
    for row, chunk in enumerate(best):
        np.testing.assert_allclose(chunk.actions, singles[q[:, row].argmax()][row].actions, atol=1e-5)


class Watched:
    """A velocity field or critic that keeps the observations it was given."""

    def __init__(self, model: Any) -> None:
        self.model, self.given_to_it = model, []
        self.aggregate = getattr(model, "aggregate", None)

    def given(self, observations: Any) -> Any:
        self.given_to_it.append(observations)
        return self.model.given(observations)


@pytest.mark.parametrize("estimator", ["qgf", "bptt"])
@pytest.mark.parametrize("candidates", [1, 8])
def test_an_observation_is_given_once_whatever_shares_it(
    tiny_policy: Policy, batch: Any, candidates: int, estimator: str
) -> None:
    """Candidates, twins, denoising steps and the judgement at the end: an encoder would run once for all of them."""
    s, noise = batch[0], np.repeat(batch[1], candidates, axis=1)
    velocity, critic = Watched(tiny_policy._velocity), Watched(tiny_policy._critics["task1"])
    policy = Policy(tiny_policy.manifest, velocity, {"task1": critic})
    policy.act(s, noise, "task1", 0.3, Guidance(estimator=estimator), prefix_of(np.random.default_rng(8), 3))
    assert [given is s for given in (*velocity.given_to_it, *critic.given_to_it)] == [True, True]
    policy.act(s, noise[:, :1], "task1", 0.0)
    assert (len(velocity.given_to_it), len(critic.given_to_it)) == (2, 1)  # without guidance no critic sees it


def test_weight_may_differ_from_sample_to_sample(tiny_policy: Policy, batch: Any) -> None:
    s, noise = batch
    mixed = actions(tiny_policy.act(s, noise, "task1", np.array([0.0, 0.1, 1.0], dtype=np.float32)))
    for row, weight in enumerate((0.0, 0.1, 1.0)):
        alone = actions(tiny_policy.act(s[row : row + 1], noise[row : row + 1], "task1", weight))
        np.testing.assert_allclose(mixed[row], alone[0], atol=2e-5)


@pytest.mark.parametrize("critic", [FailingCritic(), NanCritic()])
@pytest.mark.parametrize("candidates", [1, 4])
def test_a_failing_critic_leaves_plain_cloning_and_says_so(
    tiny_policy: Policy, batch: Any, critic: Any, candidates: int
) -> None:
    s, noise = batch
    noise = np.repeat(noise, candidates, axis=1)
    chunks = with_critic(tiny_policy, critic).act(s, noise, "task1", 0.4)
    assert all(chunk.telemetry["critic_failed"] == 1.0 for chunk in chunks)
    np.testing.assert_allclose(actions(chunks), actions(tiny_policy.act(s, noise[:, :1], "task1", 0.0)), atol=1e-6)


@pytest.mark.parametrize(
    ("s", "noise", "critic", "weight", "message"),
    [
        ((1, 27), (1, 1, 25), "task1", 0.1, "expected \\(B, 28\\)"),
        ((1, 28), (1, 1, 24), "task1", 0.1, "expected \\(1, N, 25\\)"),
        ((1, 28), (2, 1, 25), "task1", 0.1, "expected \\(1, N, 25\\)"),
        ((1, 28), (1, 1, 25), "task9", 0.1, "the bundle has task1, task2"),
        ((1, 28), (1, 1, 25), "task1", -1.0, "at least 0"),
    ],
)
def test_wrong_input_is_refused_with_what_was_expected(
    tiny_policy: Policy, s: Any, noise: Any, critic: str, weight: float, message: str
) -> None:
    with pytest.raises(GuidanceError, match=message):
        tiny_policy.act(np.zeros(s, np.float32), np.zeros(noise, np.float32), critic, weight)


def test_a_nan_observation_is_an_error_not_an_action(tiny_policy: Policy, batch: Any) -> None:
    s, noise = batch
    with pytest.raises(GuidanceError, match="not finite"):
        tiny_policy.act(np.full_like(s, np.nan), noise, "task1", 0.0)


def test_a_model_that_is_no_onnx_file_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        OnnxVelocityField({"velocity.onnx": b"not a model", "velocity_vjp.onnx": b""}, [CPU], 1)


def test_a_provider_that_cannot_start_leaves_the_cpu_and_says_so(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the GPU build of ONNX Runtime on a computer without a GPU."""
    cuda = "CUDAExecutionProvider"
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [cuda, CPU])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime's own
        policy = Policy.load(tiny_bundle, providers=["cuda"], precision="int8")
    assert [record.getMessage() for record in caplog.records] == [
        f"velocity.onnx: {cuda} could not start; it runs on {CPU}"
    ]
    assert policy.backend("task1", "qgf") == "fused int8"
    assert policy.backend("task1", "noisy") == "primitives fp32"
    policy.warm_up()


def test_a_precision_without_a_fast_path_is_told(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    Policy.load(tiny_bundle, fused=False, precision="int8")
    assert "precision int8 was given, but the policy runs over its primitives, in fp32" in caplog.text


def test_the_backend_of_a_bundle_is_the_fast_path_for_the_estimator_it_has(tiny_bundle: Path) -> None:
    policy = Policy.load(tiny_bundle, precision="int8")
    assert policy.backend("task1", "qgf") == "fused int8"
    assert policy.backend("task1", "noisy") == "primitives fp32"
    assert Policy.load(tiny_bundle, fused=False).backend("task1", "qgf") == "primitives fp32"


def test_an_unknown_provider_falls_back_to_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_providers(["MadeUpExecutionProvider"]) == [CPU]
    assert "MadeUpExecutionProvider is not in this ONNX Runtime" in caplog.text


def prefix_of(rng: Any, rows: int, frozen: int = 2) -> Prefix:
    targets = rng.uniform(-0.9, 0.9, (rows, 4, 5)).astype(np.float32)
    each = [make_prefix(target, frozen, 5) for target in targets]
    return Prefix(np.stack([one.target for one in each]), np.stack([one.weight for one in each]))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_with_a_prefix_the_action_is_the_sampler_s_over_the_primitives(
    tiny_policy: Policy, tiny_bundle: Path, batch: Any, weight: float
) -> None:
    s, noise = batch
    prefix = prefix_of(np.random.default_rng(8), 3)
    files = read_bundle(tiny_bundle)[1]
    flow, value = OnnxVelocityField(files, [CPU], 1).given(s), OnnxCritic(files, "task2", "min", [CPU], 1).given(s)
    expected = sample(flow, value, noise[:, 0], weight, prefix=prefix)
    unguided = sample(flow, None, noise[:, 0], prefix=prefix)
    got = tiny_policy.act(s, noise, "task2", weight, prefix=prefix)
    np.testing.assert_allclose(actions(got).reshape(3, 25), expected.action, atol=1e-5)
    np.testing.assert_allclose([c.unguided.ravel() for c in got], unguided.action, atol=1e-5)
    free = actions(tiny_policy.act(s, noise, "task2", weight)).reshape(3, 25)
    frozen = prefix.weight == 1.0
    near, far = (np.square(action - prefix.target)[frozen].sum() for action in (expected.action, free))
    assert near < 0.5 * far


def test_a_prefix_binds_its_own_row_alone(tiny_bundle: Path, batch: Any) -> None:
    policy = Policy.load(tiny_bundle, fused=False)
    s, noise = batch
    prefix = prefix_of(np.random.default_rng(8), 3)
    prefix.weight[1] = 0.0
    bound, free = (policy.act(s, noise, "task1", 0.2, prefix=one) for one in (prefix, None))
    for row, (one, other) in enumerate(zip(bound, free, strict=True)):
        assert np.array_equal(one.actions, other.actions) == (row == 1)


def test_every_candidate_gets_the_prefix_of_its_observation(tiny_policy: Policy, batch: Any) -> None:
    s, _ = batch
    noise = np.random.default_rng(6).standard_normal((3, 4, 25), dtype=np.float32)
    prefix = prefix_of(np.random.default_rng(8), 3)
    best = actions(tiny_policy.act(s, noise, "task1", 0.2, prefix=prefix))
    singles = [actions(tiny_policy.act(s, noise[:, n : n + 1], "task1", 0.2, prefix=prefix)) for n in range(4)]
    for row in range(3):
        assert min(np.abs(best[row] - single[row]).max() for single in singles) < 1e-5


def test_a_critic_that_fails_leaves_the_prefix_in_force(tiny_policy: Policy, batch: Any) -> None:
    s, noise = batch
    prefix = prefix_of(np.random.default_rng(8), 3)
    chunks = with_critic(tiny_policy, FailingCritic()).act(s, noise, "task1", 0.4, prefix=prefix)
    assert all(chunk.telemetry["critic_failed"] == 1.0 for chunk in chunks)
    plain = tiny_policy.act(s, noise, "task1", 0.0, prefix=prefix)
    np.testing.assert_allclose(actions(chunks), actions(plain), atol=1e-6)


def test_a_prefix_of_another_shape_is_refused(tiny_policy: Policy, batch: Any) -> None:
    with pytest.raises(
        GuidanceError, match=r"a prefix of target \(2, 25\) and weight \(2, 25\) was given, expected \(3, 25\)"
    ):
        tiny_policy.act(*batch, "task1", 0.1, prefix=prefix_of(np.random.default_rng(8), 2))


def test_numbers_of_another_type_are_refused(tiny_policy: Policy, batch: Any) -> None:
    s, noise = batch
    with pytest.raises(GuidanceError, match="observations of float64 were given, expected float32"):
        tiny_policy.act(s.astype(np.float64), noise, "task1", 0.1)
    with pytest.raises(GuidanceError, match="noise of float64 were given, expected float32"):
        tiny_policy.act(s, noise.astype(np.float64), "task1", 0.1)
