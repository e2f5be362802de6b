"""The fast path against the reference: the same actions, the same telemetry, the same failures."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from exploration import examples
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.layers import Layer
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import critic_file, read_bundle
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.launching.extras import install_command
from qgf_ros.runtime.models import OnnxCritic, OnnxVelocityField
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.session import CPU

graphs = pytest.importorskip("qgf_ros.learning.export.primitives", reason="building graphs needs onnx")
fused = pytest.importorskip("qgf_ros.runtime.fused", reason="the fast path needs onnx")
proof = pytest.importorskip("qgf_ros.runtime.proof", reason="the fast path needs onnx")

SHIPPED = sorted(path.parent for path in Path(__file__).parents[2].glob("models/*/manifest.json"))
FREQUENCIES = np.array([1.0, 0.1, 0.01], dtype=np.float32)
PERIOD = 30.0
CRITIC = "random"


def random_layers(rng: np.random.Generator, inputs: int, hidden: tuple[int, ...], outputs: int, normed: int) -> Any:
    """Return an MLP whose first `normed` layers have a LayerNorm."""
    layers = []
    for number, (fan_in, fan_out) in enumerate(zip((inputs, *hidden), (*hidden, outputs))):
        weight = rng.standard_normal((fan_in, fan_out), dtype=np.float32) / np.float32(np.sqrt(fan_in))
        bias, scale, shift = 0.2 * rng.standard_normal((3, fan_out), dtype=np.float32)
        norm = (1.0 + scale, shift) if number < normed else ()
        layers.append(Layer(weight, bias, *norm))
    return layers


def random_files(
    rng: np.random.Generator,
    sizes: tuple[int, int],
    hidden: tuple[int, ...],
    ensemble: int = 2,
    aggregation: str = "min",
    critic_normed: int | None = None,
    frequencies: Any = FREQUENCIES,
) -> dict[str, bytes]:
    """Return the primitives of a bundle of random networks."""
    embedding = 1 if frequencies is None else 2 * len(frequencies)
    velocity = random_layers(rng, sum(sizes) + embedding, hidden, sizes[1], len(hidden) - 1)
    normed = len(hidden) if critic_normed is None else critic_normed
    members = [random_layers(rng, sum(sizes), hidden, 1, normed) for _ in range(ensemble)]
    return {
        "velocity.onnx": graphs.velocity_graph(velocity, *sizes, frequencies, PERIOD, vjp=False),
        "velocity_vjp.onnx": graphs.velocity_graph(velocity, *sizes, frequencies, PERIOD, vjp=True),
        critic_file(CRITIC): graphs.critic_graph(members, *sizes, aggregation),
    }


def manifest_of(sizes: tuple[int, int], ensemble: int = 2, aggregation: str = "min") -> Manifest:
    observation = ObservationField(
        name="s", topic="s", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=sizes[0], unit="1"
    )
    return Manifest(
        name="random",
        observation=(observation,),
        action=tuple(ActionField(name=f"a{i}", unit="1", scale=1.0, lower=-1.0, upper=1.0) for i in range(sizes[1])),
        horizon=1,
        execution_horizon=1,
        control_rate=20.0,
        critics={CRITIC: CriticCard(task="none", discount=0.99, ensemble_size=ensemble, aggregation=aggregation)},
    )


def models(files: dict[str, bytes], aggregation: str = "min", critic: str = CRITIC) -> tuple[Any, Any]:
    return OnnxVelocityField(files, [CPU], 1), OnnxCritic(files, critic, aggregation, [CPU], 1)


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape, dtype=np.float32)


@examples(30)
@given(data=st.data())
def test_a_fused_tick_is_the_reference_s(data: st.DataObject) -> None:
    """Sizes, ensembles, T, rows, weights (some of them 0) and every option, drawn at random."""
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), "seed"))
    sizes = draw(st.integers(1, 12), "observation"), draw(st.integers(1, 9), "chunk")
    hidden = (draw(st.integers(8, 48), "width"),) * draw(st.integers(1, 4), "layers")
    ensemble = draw(st.integers(1, 3), "ensemble")
    aggregation = draw(st.sampled_from(["min", "mean", "mean - 0.5 std"]))
    frequencies = draw(st.sampled_from([FREQUENCIES, None]), "frequencies")
    steps, rows = draw(st.integers(1, 12), "T"), draw(st.integers(1, 17), "rows")
    weight = np.array(
        draw(st.lists(st.sampled_from([0.0, 0.03, 0.3, 1.0]), min_size=rows, max_size=rows).filter(any), "weight"),
        dtype=np.float32,
    )
    # No st.floats: ONNX Runtime has told this thread to take denormals for zero, and Hypothesis needs them.
    factors = st.lists(st.sampled_from([0.0, 0.7, 1.0, 2.0]), min_size=steps, max_size=steps).map(tuple)
    guidance = Guidance(
        max_gradient_norm=draw(st.sampled_from([math.inf, 0.1, 1.0]), "max_gradient_norm"),
        disagreement_scale=draw(st.sampled_from([math.inf, 0.1, 1.0]), "disagreement_scale"),
        schedule=draw(st.one_of(st.sampled_from(["constant", "linear", "cosine", "falling"]), factors), "schedule"),
        mask=draw(
            st.one_of(
                st.just(()), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=sizes[1], max_size=sizes[1]).map(tuple)
            ),
            "mask",
        ),
    )
    files = random_files(rng, sizes, hidden, ensemble, aggregation, frequencies=frequencies)
    velocity, critic = models(files, aggregation)
    s, noise = normal(rng, rows, sizes[0]), normal(rng, rows, sizes[1])
    manifest = manifest_of(sizes, ensemble, aggregation).model_copy(update={"denoising_steps": steps})
    if draw(st.booleans(), "laid out for a GPU"):
        sampler = fused.DeviceSampler(files, manifest, 1, (CPU,))
    else:
        sampler = fused.FusedSampler(files, manifest, 1)

    tick, flow, value = sampler.given(s), velocity.given(s), critic.given(s)
    result = tick.guided(CRITIC, noise, weight, steps, guidance)
    expected = sample(flow, value, noise, weight, steps=steps, guidance=guidance)
    plain = sample(flow, None, noise, steps=steps)
    guided = weight > 0.0
    np.testing.assert_allclose(result.sample.action, expected.action, atol=1e-5)
    np.testing.assert_allclose(result.sample.gradient_norm, expected.gradient_norm, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(result.unguided, plain.action, atol=1e-5)
    np.testing.assert_allclose(result.q, value(expected.action)[:, guided], atol=1e-5, rtol=1e-5)
    # A component within rounding of a bound may count as clipped or not.
    assert np.abs(result.sample.clip_fraction - expected.clip_fraction).max() <= 1.0 / sizes[1] + 1e-6

    alone = tick.plain(noise, steps).action
    np.testing.assert_array_equal(result.unguided, alone)
    np.testing.assert_array_equal(result.sample.action[~guided], alone[~guided])


@pytest.mark.parametrize(("threads", "candidates"), [(1, 1), (2, 16)])
@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda bundle: bundle.name)
def test_a_shipped_bundle_is_unchanged_by_the_fast_path(bundle: Path, threads: int, candidates: int) -> None:
    fast, reference = (Policy.load(bundle, threads=threads, fused=value) for value in (True, False))
    rng = np.random.default_rng(1)
    s = normal(rng, 3, fast.manifest.observation_size)
    noise = normal(rng, 3, candidates, fast.manifest.chunk_size)
    seen = {
        name: rng.integers(256, size=(3, *of.size, 3), dtype=np.uint8) for name, of in fast.manifest.cameras.items()
    }
    for critic, card in fast.manifest.critics.items():
        weight = card.recommended_weight or 0.03
        got, expected = (policy.act(s, noise, critic, weight, images=seen or None) for policy in (fast, reference))
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)
            np.testing.assert_allclose(ours.unguided, theirs.unguided, atol=1e-5)
            for name in ("q", "gradient_norm"):
                np.testing.assert_allclose(ours.telemetry[name], theirs.telemetry[name], rtol=1e-4, atol=1e-4)
            assert ours.telemetry["critic_failed"] == 0.0
    assert fast._fused is not None
    assert all(fast._fused.has(critic) for critic in fast.manifest.critics)


def test_the_same_inputs_give_the_same_bits_whatever_ran_before(tiny_policy: Policy) -> None:
    rng = np.random.default_rng(2)
    s, noise = normal(rng, 1, 28), normal(rng, 1, 1, 25)
    first = tiny_policy.act(s, noise, "task1", 0.3)[0]
    tiny_policy.act(normal(rng, 5, 28), normal(rng, 5, 3, 25), "task1", 1.0)
    tiny_policy.act(s, noise, "task2", 0.3, Guidance(max_gradient_norm=0.1))
    again = tiny_policy.act(s, noise, "task1", 0.3)[0]
    np.testing.assert_array_equal(first.actions, again.actions)
    np.testing.assert_array_equal(first.unguided, again.unguided)


def test_rows_of_given_observations_share_their_tick(tiny_policy: Policy) -> None:
    sampler, rng = tiny_policy._fused, np.random.default_rng(12)
    assert sampler is not None
    s, noise, weight = normal(rng, 3, 28), normal(rng, 4, 25), np.full(4, 0.3, np.float32)
    for rows in (np.array([2, 0, 2, 1]), slice(1, None)):
        count = len(s[rows])
        tick, whole = sampler.given(s).rows(rows), sampler.given(s[rows])
        given = noise[:count], weight[:count]
        np.testing.assert_array_equal(tick.plain(given[0], 10).action, whole.plain(given[0], 10).action)
        got, expected = (one.guided("task1", *given, 10, QGF) for one in (tick, whole))
        np.testing.assert_array_equal(got.sample.action, expected.sample.action)


def test_a_row_of_weight_zero_is_plain_cloning_to_the_bit(tiny_policy: Policy) -> None:
    rng = np.random.default_rng(3)
    s, noise = normal(rng, 4, 28), normal(rng, 4, 1, 25)
    weight = np.array([0.0, 0.5, 0.0, 1.0], dtype=np.float32)
    mixed = tiny_policy.act(s, noise, "task1", weight)
    for row in range(4):
        alone = tiny_policy.act(s[row : row + 1], noise[row : row + 1], "task1", 0.0)[0]
        np.testing.assert_array_equal(mixed[row].unguided, alone.actions)
        assert (mixed[row].actions == alone.actions).all() == (weight[row] == 0.0)


def test_mixed_best_of_n_values_rows_of_weight_zero_too(tiny_bundle: Path, tiny_policy: Policy) -> None:
    rng = np.random.default_rng(4)
    s, noise = normal(rng, 2, 28), normal(rng, 2, 6, 25)
    weight = np.array([0.0, 0.4], dtype=np.float32)
    got = tiny_policy.act(s, noise, "task1", weight)
    expected = Policy.load(tiny_bundle, fused=False).act(s, noise, "task1", weight)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)
        np.testing.assert_allclose(ours.telemetry["q"], theirs.telemetry["q"], atol=1e-5)


def broken(files: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    """Return files whose networks of that prefix give NaN."""
    import onnx

    result = {}
    for path, content in files.items():
        model = onnx.load_from_string(content)
        for constant in model.graph.initializer:
            if constant.name.startswith(prefix) and constant.name.endswith("1.bias"):
                array = np.full_like(onnx.numpy_helper.to_array(constant), np.nan)
                constant.CopyFrom(onnx.numpy_helper.from_array(array, constant.name))
        result[path] = model.SerializeToString()
    return result


@pytest.fixture
def random_bundle() -> tuple[dict[str, bytes], Manifest]:
    sizes = 7, 4
    return random_files(np.random.default_rng(5), sizes, (16, 16, 16)), manifest_of(sizes)


def test_a_critic_that_gives_nan_leaves_plain_cloning_and_says_so(random_bundle: Any) -> None:
    files, manifest = random_bundle
    files = broken(files, "q")
    velocity, critic = models(files)
    sampler = fused.FusedSampler(files, manifest, 1)
    rng = np.random.default_rng(6)
    s, noise = normal(rng, 2, 7), normal(rng, 2, 1, 4)
    with pytest.raises(GuidanceError, match="critic's gradient is not finite"):
        sampler.given(s).guided(CRITIC, noise[:, 0], np.ones(2, np.float32), 10, QGF)
    policy = Policy(manifest, velocity, {CRITIC: critic}, sampler)
    for row, chunk in enumerate(policy.act(s, noise, CRITIC, 0.4)):
        assert chunk.telemetry["critic_failed"] == 1.0
        np.testing.assert_array_equal(chunk.actions[0], sampler.given(s).plain(noise[:, 0], 10).action[row])
    # Where nothing is guided the broken critic is not even asked.
    assert policy.act(s, noise, CRITIC, 0.0)[0].telemetry["critic_failed"] == 0.0


def test_a_critic_that_gives_nan_keeps_no_other_from_the_fast_path(
    random_bundle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    files, manifest = random_bundle
    files = {**files, critic_file("bad"): broken(files, "q")[critic_file(CRITIC)]}
    manifest = manifest.model_copy(update={"critics": dict.fromkeys((CRITIC, "bad"), manifest.critics[CRITIC])})
    velocity, critic = models(files)
    _, bad = models(files, critic="bad")
    sampler = proof.load_fused(files, manifest, velocity, {CRITIC: critic, "bad": bad}, 1)
    assert sampler is not None
    assert (sampler.has(CRITIC), sampler.has("bad")) == (True, False)
    assert "critic bad runs over the reference path" in caplog.text


def test_a_velocity_that_gives_nan_is_an_error(random_bundle: Any) -> None:
    files, manifest = random_bundle
    sampler = fused.FusedSampler(broken(files, "velocity"), manifest, 1)
    with pytest.raises(GuidanceError, match="velocity field gave a value that is not finite"):
        sampler.given(np.zeros((1, 7), np.float32)).plain(np.zeros((1, 4), np.float32), 10)


def test_one_row_that_is_not_finite_among_others_is_an_error(random_bundle: Any) -> None:
    files, manifest = random_bundle
    sampler = fused.FusedSampler(files, manifest, 1)
    s, noise = np.zeros((3, 7), np.float32), np.zeros((3, 4), np.float32)
    s[1, 2] = np.nan
    with pytest.raises(GuidanceError, match="velocity field gave a value that is not finite"):
        sampler.given(s).plain(noise, 10)
    with pytest.raises(GuidanceError, match="is not finite"):
        sampler.given(s).guided(CRITIC, noise, np.ones(3, np.float32), 10, QGF)


class ShiftedValue:
    """A critic whose values are 1 more, and whose gradient is the same."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, a: Any) -> Any:
        return self._value(a) + 1.0

    def given(self, s: Any) -> ShiftedValue:
        return ShiftedValue(self._value.given(s))

    def rows(self, rows: Any) -> ShiftedValue:
        return ShiftedValue(self._value.rows(rows))

    def value_and_grad(self, a: Any) -> Any:
        q, gradient = self._value.value_and_grad(a)
        return q + 1.0, gradient


def test_a_critic_whose_values_alone_differ_is_not_proven(random_bundle: Any, caplog: pytest.LogCaptureFixture) -> None:
    files, manifest = random_bundle
    velocity, critic = models(files)
    shifted: Any = ShiftedValue(critic)
    sampler = proof.load_fused(files, manifest, velocity, {CRITIC: shifted}, 1)
    assert sampler is not None and not sampler.has(CRITIC)
    assert "its composed graph differs from its primitive" in caplog.text


def test_a_graph_that_is_not_what_its_weights_say_runs_over_the_reference_path(
    random_bundle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx

    files, manifest = random_bundle
    for path, operator, message in (
        ("velocity.onnx", "Tanh", "the composed velocity field differs from its primitive"),
        (critic_file(CRITIC), "Tanh", "its composed graph differs from its primitive"),
    ):
        model = onnx.load_from_string(files[path])
        for node in model.graph.node:
            if node.op_type == operator:
                node.op_type = "Sin"
        changed = {**files, path: model.SerializeToString()}
        velocity, critic = models(changed)
        caplog.clear()
        sampler = proof.load_fused(changed, manifest, velocity, {CRITIC: critic}, 1)
        assert message in caplog.text
        assert sampler is None or not sampler.has(CRITIC)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_critic_that_is_not_proven_is_not_composed_in_any_precision(
    random_bundle: Any, precision: Literal["fp32", "int8"]
) -> None:
    import onnx

    files, manifest = random_bundle
    model = onnx.load_from_string(files[critic_file(CRITIC)])
    for node in model.graph.node:
        if node.op_type == "Tanh":
            node.op_type = "Sin"
    files = {**files, critic_file("other"): model.SerializeToString()}
    manifest = manifest.model_copy(update={"critics": dict.fromkeys((CRITIC, "other"), manifest.critics[CRITIC])})
    velocity, critic = models(files)
    _, other = models(files, critic="other")
    sampler = proof.load_fused(files, manifest, velocity, {CRITIC: critic, "other": other}, 1, precision)
    assert sampler is not None
    assert sampler.precision == precision
    assert (sampler.has(CRITIC), sampler.has("other")) == (True, False)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_the_proof_calls_equal_differs_by_a_thousandth_of_one_and_its_size_either_way(sign: float) -> None:
    expected = np.array([-4.0, 0.0, 9.0])
    bound = np.array([0.005, 0.001, 0.01])
    for i in range(3):
        one = np.eye(3)[i]
        assert proof._equal(expected + sign * one * bound * 0.99, expected)
        assert not proof._equal(expected + sign * one * bound * 1.01, expected)
    assert not proof._equal(np.array([np.nan, 0.0, 9.0]), expected)


@pytest.mark.parametrize(
    ("hidden", "critic_normed", "message"),
    [((16, 8), None, "not all of one size"), ((16, 16), 1, "not all of one size with a LayerNorm")],
)
def test_a_critic_of_another_form_runs_over_the_reference_path(
    hidden: tuple[int, ...], critic_normed: int | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = 7, 4
    files = random_files(np.random.default_rng(7), sizes, hidden, critic_normed=critic_normed)
    velocity, critic = models(files)
    with caplog.at_level(logging.WARNING):
        sampler = proof.load_fused(files, manifest_of(sizes), velocity, {CRITIC: critic}, 1)
    assert message in caplog.text
    assert sampler is not None and not sampler.has(CRITIC)
    rng = np.random.default_rng(8)
    s, noise = normal(rng, 1, 7), normal(rng, 1, 1, 4)
    policy = Policy(manifest_of(sizes), velocity, {CRITIC: critic}, sampler)
    expected = sample(velocity.given(s), critic.given(s), noise[:, 0], 0.4)
    np.testing.assert_allclose(policy.act(s, noise, CRITIC, 0.4)[0].actions, expected.action, atol=1e-6)


def test_a_velocity_field_with_other_names_runs_over_the_reference_path(
    random_bundle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    files, manifest = random_bundle
    velocity, critic = models(files)
    renamed = {**files, "velocity.onnx": files["velocity.onnx"].replace(b"velocity.", b"speedity.")}
    assert proof.load_fused(renamed, manifest, velocity, {CRITIC: critic}, 1) is None
    assert "the policy runs over the reference path: no hidden layer of velocity was found" in caplog.text


def test_without_onnx_the_policy_runs_over_the_reference_path(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Halted(ModuleType):
        """The module that needs onnx, where that is missing."""

        def __getattr__(self, name: str) -> Any:
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setitem(sys.modules, "qgf_ros.runtime.proof", Halted("qgf_ros.runtime.proof"))
    policy = Policy.load(tiny_bundle)
    assert policy._fused is None
    assert "the policy runs over the reference path, because onnx cannot be imported" in caplog.text
    assert f"install it with: {install_command('cpu')}" in caplog.text


def test_the_fast_path_can_be_switched_off(tiny_bundle: Path) -> None:
    assert Policy.load(tiny_bundle, fused=False)._fused is None
    assert Policy.load(tiny_bundle)._fused is not None


def test_reading_a_bundle_gives_back_the_networks(tiny_bundle: Path) -> None:
    from qgf_ros.runtime.weights import read_critic, read_velocity

    _, files = read_bundle(tiny_bundle)
    velocity = read_velocity(files["velocity.onnx"])
    assert [layer.weight.shape for layer in velocity.layers] == [(28 + 25 + 16, 32), (32, 32), (32, 25)]
    assert [layer.scale is not None for layer in velocity.layers] == [True, False, False]
    assert velocity.period == 10000.0
    members = read_critic(files[critic_file("task1")])
    assert [[layer.weight.shape for layer in member] for member in members] == [[(53, 32), (32, 32), (32, 1)]] * 2


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("aggregation", ["min", "mean"])
def test_another_precision_stays_close_to_fp32_and_is_not_it(aggregation: str, precision: str) -> None:
    sizes = 20, 10
    files = random_files(np.random.default_rng(9), sizes, (160, 160, 160), aggregation=aggregation)
    manifest = manifest_of(sizes, aggregation=aggregation)
    velocity, critic = models(files, aggregation)
    exact, rough = (
        proof.load_fused(files, manifest, velocity, {CRITIC: critic}, 1, name) for name in ("fp32", precision)
    )
    rng = np.random.default_rng(10)
    s, noise = normal(rng, 8, sizes[0]), normal(rng, 8, sizes[1])
    weight = np.array([0.0, 0.1] * 4, dtype=np.float32)
    ours, theirs = (sampler.given(s).guided(CRITIC, noise, weight, 10, QGF) for sampler in (rough, exact))
    for got, expected in ((ours.sample.action, theirs.sample.action), (ours.unguided, theirs.unguided)):
        error = np.abs(got - expected).max()
        assert 1e-5 < error < 0.05
    np.testing.assert_allclose(ours.q, theirs.q, atol=0.1)
    np.testing.assert_allclose(ours.sample.gradient_norm, theirs.sample.gradient_norm, rtol=0.1)
    guided = weight > 0.0
    np.testing.assert_array_equal(ours.sample.action[~guided], ours.unguided[~guided])


def test_a_policy_loads_in_int8(tiny_bundle: Path) -> None:
    rng = np.random.default_rng(11)
    s, noise = normal(rng, 2, 28), normal(rng, 2, 4, 25)
    got, expected = (
        Policy.load(tiny_bundle, precision=precision).act(s, noise, "task1", 0.2) for precision in ("int8", "fp32")
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert 0.0 < np.abs(ours.unguided - theirs.unguided).max() < 0.05
