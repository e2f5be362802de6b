"""The names of weights: what the exporter writes is what the robot reads, and what shipped bundles hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.layers import FREQUENCIES, PARTS, VELOCITY, Layer, Layers, member_network, weight_name

onnx = pytest.importorskip("onnx", reason="reading graphs needs onnx")

SHIPPED = sorted(path.parent for path in Path(__file__).parents[2].glob("models/*/manifest.json"))


def test_names_are_those_of_every_bundle_there_is() -> None:
    assert weight_name(VELOCITY, 0, "weight") == "velocity.0.weight"
    assert weight_name(member_network(1), 2, "scale") == "q1.2.scale"
    assert FREQUENCIES == "frequencies"
    assert {*Layer.__dataclass_fields__} == {*PARTS}


def names(path: Path) -> set[str]:
    return {tensor.name for tensor in onnx.load(str(path)).graph.initializer}


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda bundle: bundle.name)
def test_a_shipped_bundle_holds_its_weights_under_them(bundle: Path) -> None:
    for file in ("velocity.onnx", "velocity_vjp.onnx"):
        assert {FREQUENCIES, *(weight_name(VELOCITY, 0, part) for part in PARTS)} <= names(bundle / file)
    for file in bundle.glob("critics/*/q_grad.onnx"):
        assert {weight_name(member_network(e), 0, part) for e in range(2) for part in PARTS} <= names(file)


def random_layers(rng: np.random.Generator, *sizes: int) -> Layers:
    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    hidden = [Layer(normal(i, o), normal(o), normal(o), normal(o)) for i, o in zip(sizes, sizes[1:-1])]
    return (*hidden, Layer(normal(*sizes[-2:]), normal(sizes[-1])))


def test_what_the_exporter_writes_the_robot_reads() -> None:
    graphs = pytest.importorskip("qgf_ros.learning.export.primitives")
    weights = pytest.importorskip("qgf_ros.runtime.weights")
    rng = np.random.default_rng(3)
    frequencies = np.array([1.0, 0.5], np.float32)
    velocity = random_layers(rng, 3 + 2 + 4, 8, 8, 2)
    members = [random_layers(rng, 3 + 2, 8, 8, 1) for _ in range(3)]
    read = weights.read_velocity(graphs.velocity_graph(velocity, 3, 2, frequencies, 30.0, vjp=True))
    np.testing.assert_array_equal(read.frequencies, frequencies)
    ensemble = weights.read_critic(graphs.critic_graph(members, 3, 2, "min"))
    assert len(ensemble) == 3
    for got, expected in zip((read.layers, *ensemble), (velocity, *members), strict=True):
        for layer, written in zip(got, expected, strict=True):
            for part in PARTS:
                np.testing.assert_array_equal(getattr(layer, part), getattr(written, part))
