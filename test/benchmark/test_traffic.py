"""Bytes of weights, counted by hand for small networks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="random bundles need the train extra")
pytest.importorskip("onnxruntime", reason="checking an export needs ONNX Runtime")

from qgf_ros.analysis.compute import Calls, Case
from qgf_ros.benchmark.random_bundle import CRITIC, NetworkShape, write_random_bundle
from qgf_ros.benchmark.traffic import Traffic, count_calls, count_traffic
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest

S, A, H, W, T = 7, 2, 3, 16, 4
C = A * H


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "small"
    write_random_bundle(out, NetworkShape(2, W, S, A, H, T))
    return out


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return load_manifest(bundle)


def mlp(inputs: int, outputs: int, normed: int) -> int:
    """Numbers in an MLP of two hidden layers: weights, biases, and scale and shift of each LayerNorm.

    The graphs normalise with a scale of ones and a shift of zeros before the layer's own, twice W more.
    """
    return inputs * W + W + W * W + W + W * outputs + outputs + normed * 4 * W


def test_forward_passes_read_every_weight_once(bundle: Path, manifest: Manifest) -> None:
    traffic = count_traffic(bundle, manifest, CRITIC, 1)
    # Scalars of the GELU, the eight frequencies and the like are all that may be left over.
    assert 0 <= traffic.velocity - 4 * mlp(S + C + 16, C, normed=1) < 200
    assert 0 <= traffic.critic - 2 * 4 * mlp(S + C, 1, normed=2) < 200


def test_backward_passes_read_matrices_again_but_for_the_observation_s_part(bundle: Path, manifest: Manifest) -> None:
    traffic = count_traffic(bundle, manifest, CRITIC, 2)
    # The last matrix, the middle one, the action's part of the first, and the LayerNorm's scale.
    velocity = C * W + W * W + W * C + W
    assert 0 <= traffic.velocity_backward - 4 * velocity < 200
    critic = W + W * W + W * C + 2 * W
    assert 0 <= traffic.critic_backward - 2 * 4 * critic < 400


def test_no_more_members_go_backward_than_rows_can_select(bundle: Path, manifest: Manifest) -> None:
    one, two, many = (count_traffic(bundle, manifest, CRITIC, rows) for rows in (1, 2, 16))
    assert one.critic_backward == two.critic_backward // 2
    assert two == many
    mean = manifest.critics[CRITIC].model_copy(update={"aggregation": "mean"})
    averaged = manifest.model_copy(update={"critics": {CRITIC: mean}})
    assert count_traffic(bundle, averaged, CRITIC, 1) == two


@pytest.mark.parametrize("n", [1, 16])
def test_calls_are_counted_once_for_all_rows(manifest: Manifest, n: int) -> None:
    # The value of the finished action is asked for once; the unguided twin shares every call.
    assert count_calls(Case("qgf", n), manifest) == Calls(velocity=T, critic_gradient=T, critic_value=1)
    assert count_calls(Case("bc", n), manifest) == Calls(velocity=T, critic_value=int(n > 1))
    ahead = sum(T - k - 1 for k in range(T))
    assert count_calls(Case("bptt", n), manifest) == Calls(
        velocity=T + ahead, vjp=sum(T - k for k in range(T)), critic_gradient=T, critic_value=1
    )


def test_traffic_is_calls_times_bytes() -> None:
    traffic = Traffic(velocity=1000, velocity_backward=100, critic=10, critic_backward=1)
    assert traffic.of(Calls(velocity=2, vjp=3, critic_value=4, critic_gradient=5)) == 2000 + 300 + 90 + 5
