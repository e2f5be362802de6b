"""Random networks run the code that trained ones run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="random bundles need the train extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.benchmark.peers import read_networks
from qgf_ros.benchmark.random_bundle import CRITIC, NetworkShape, parse_shapes, write_random_bundle
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import GuidanceError
from qgf_ros.runtime.policy import Policy

SHAPE = NetworkShape(layers=3, width=8, observation=6, action=2, horizon=4, steps=5)


def test_a_random_bundle_has_the_sizes_asked_for_and_runs(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "r", SHAPE)
    manifest = load_manifest(tmp_path / "r")
    assert (manifest.observation_size, manifest.action_size, manifest.horizon) == (6, 2, 4)
    assert manifest.denoising_steps == 5
    networks = read_networks(tmp_path / "r", CRITIC)
    assert [layer.weight.shape for layer in networks.velocity] == [(6 + 8 + 16, 8), (8, 8), (8, 8), (8, 8)]
    assert [layer.weight.shape for layer in networks.critic[1]] == [(6 + 8, 8), (8, 8), (8, 8), (8, 1)]
    one = np.ones((1, 1, 8), np.float32)
    (chunk,) = Policy.load(tmp_path / "r").act(np.zeros((1, 6), np.float32), one, CRITIC, 1.0)
    assert chunk.actions.shape == (4, 2)
    assert chunk.telemetry["guidance_distance"] > 1e-3


def test_no_parameter_is_trivial(tmp_path: Path) -> None:
    write_random_bundle(tmp_path / "r", SHAPE)
    networks = read_networks(tmp_path / "r", CRITIC)
    for layers in (networks.velocity, *networks.critic):
        for number, layer in enumerate(layers):
            assert np.ptp(layer.bias) > 0.0 or layer.bias.size == 1
            assert np.all(layer.bias != 0.0)
            if layer.scale is not None:
                assert np.ptp(layer.scale) > 0.0
                assert np.ptp(layer.shift) > 0.0
            assert (layer.scale is None) == (number >= len(layers) - 1 - (layers is networks.velocity))


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_bundle(tmp_path / name, SHAPE, seed)
    a, b, c = ((tmp_path / name / "velocity.onnx").read_bytes() for name in "abc")
    assert a == b != c


def test_shapes_are_parsed() -> None:
    assert parse_shapes("3x256, 4x1024", 46, 5, 1, 10) == [
        NetworkShape(3, 256, 46, 5, 1, 10),
        NetworkShape(4, 1024, 46, 5, 1, 10),
    ]
    assert NetworkShape(3, 256).name == "3x256"


@pytest.mark.parametrize("text", ["4", "x4", "4x", "4x1024x2", "4 x 8", "4x8,"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(GuidanceError, match="such as 4x1024"):
        parse_shapes(text, 1, 1, 1, 1)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(GuidanceError, match="width 0 was given"):
        parse_shapes("4x0", 1, 1, 1, 1)
