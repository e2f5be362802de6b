"""A checkpoint in the published layout becomes layers, or one sentence that names the key."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qgf_ros.errors import TrainingError
from qgf_ros.learning.published.published_checkpoint import load_published, published_frequencies


@pytest.mark.parametrize(
    "options",
    [
        {"observation": 4, "chunk": 2, "hidden": (12, 16, 8)},
        {"observation": 7, "chunk": 10, "hidden": (9,), "sinusoidal": False},
        {"observation": 1, "chunk": 1, "hidden": (5, 5, 5, 5), "norm": False, "ensemble": 3},
        {"observation": 3, "chunk": 6, "hidden": (8, 8), "ensemble": 1},
    ],
)
def test_every_size_is_read_off_the_arrays(published: SimpleNamespace, options: dict[str, Any]) -> None:
    networks = load_published(published.write(published.agent(**options)))
    given = {"ensemble": 2, "norm": True, "sinusoidal": True, **options}
    assert (networks.observation_size, networks.chunk_size) == (given["observation"], given["chunk"])
    assert networks.sinusoidal == given["sinusoidal"]
    assert len(networks.critic) == len(networks.target_critic) == given["ensemble"]
    assert networks.updates == 7
    hidden, last = given["hidden"], len(given["hidden"])
    inputs = given["observation"] + given["chunk"]
    expected = {
        "policy": (networks.policy, inputs + (16 if given["sinusoidal"] else 1), given["chunk"], last - 1),
        "critic": (networks.target_critic[-1], inputs, 1, last),
        "value": (networks.value, given["observation"], 1, last),
    }
    for layers, fan_in, fan_out, normed in expected.values():
        assert [layer.weight.shape for layer in layers] == list(zip((fan_in, *hidden), (*hidden, fan_out)))
        assert [len(layer.bias) for layer in layers] == [*hidden, fan_out]
        assert [layer.scale is not None for layer in layers] == [given["norm"] and i < normed for i in range(last + 1)]


def test_members_and_networks_are_not_mixed_up(published: SimpleNamespace) -> None:
    agent = published.agent()
    networks = load_published(published.write(agent))
    for name, members in (("critic", networks.critic), ("target_critic", networks.target_critic)):
        arrays = agent[name]["params"]["value_net"]
        for e, layers in enumerate(members):
            for i, layer in enumerate(layers):
                np.testing.assert_array_equal(layer.weight, arrays[f"Dense_{i}"]["kernel"][e])
                np.testing.assert_array_equal(layer.bias, arrays[f"Dense_{i}"]["bias"][e])
            np.testing.assert_array_equal(layers[1].scale, arrays["LayerNorm_1"]["scale"][e])
            np.testing.assert_array_equal(layers[1].shift, arrays["LayerNorm_1"]["bias"][e])
    np.testing.assert_array_equal(networks.policy[3].weight, agent["policy"]["params"]["Dense_0"]["kernel"])


def test_frequencies_are_those_of_the_published_code() -> None:
    """As its float32 expression gives them under JAX 0.4.30 on a CPU; the last one is of no consequence to one unit."""
    jax = ["0x1p+0", "0x1.43d136p-2", "0x1.999998p-4", "0x1.030dc4p-5"]
    jax += ["0x1.47ae14p-7", "0x1.9e7c66p-9", "0x1.0624dcp-10", "0x1.4b96c0p-12"]
    expected = np.array([float.fromhex(value) for value in jax], dtype=np.float32)
    np.testing.assert_array_equal(published_frequencies()[:7], expected[:7])
    assert abs(published_frequencies()[7] - expected[7]) <= np.spacing(expected[7])


def _without(*keys: str) -> Callable[[Any], None]:
    def change(agent: Any) -> None:
        for key in keys[:-1]:
            agent = agent[key]
        del agent[keys[-1]]

    return change


def _with(value: Any, *keys: str) -> Callable[[Any], None]:
    def change(agent: Any) -> None:
        for key in keys[:-1]:
            agent = agent[key]
        agent[keys[-1]] = value

    return change


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


POLICY, NET = ("policy", "params", "MLP_0"), ("target_critic", "params", "value_net")
NORM = {"scale": zeros(12), "bias": zeros(12)}
WRONG = {
    "no critic": (_without("target_critic"), r"agent has no target_critic"),
    "no parameters": (_without("value", "params"), r"agent\.value has no params"),
    "a network of another agent": (_with({}, "actor_slow"), r"agent has an unexpected actor_slow"),
    "an encoder": (_with({}, "policy", "params", "encoder"), r"agent\.policy\.params has an unexpected encoder"),
    "another layer": (_with({}, *POLICY, "Conv_0"), r"agent\.policy\.params\.MLP_0 has an unexpected Conv_0"),
    "another parameter": (_with(zeros(8), *POLICY, "Dense_1", "gain"), r"MLP_0\.Dense_1 has an unexpected gain"),
    "a gap": (_without(*NET, "Dense_1"), r"agent\.target_critic\.params\.value_net has no Dense_1"),
    "no bias": (_without(*NET, "Dense_1", "bias"), r"value_net\.Dense_1 has no bias"),
    "no scale": (_without(*NET, "LayerNorm_1", "scale"), r"value_net\.LayerNorm_1 has no scale"),
    "half the norms": (_without(*NET, "LayerNorm_2"), r"value_net has 2 LayerNorm, expected 3 or none"),
    "a norm too many": (_with(NORM, *POLICY, "LayerNorm_2"), r"MLP_0 has 3 LayerNorm, expected 2 or none"),
    "a narrow kernel": (
        _with(zeros(2, 12, 15), *NET, "Dense_1", "kernel"),
        r"Dense_1\.bias has shape 2 x 16, expected 2 x 15",
    ),
    "a kernel that does not follow": (
        _with(zeros(11, 16), *POLICY, "Dense_1", "kernel"),
        r"Dense_1\.kernel has shape 11 x 16, expected 12 x any",
    ),
    "no ensemble axis": (_with(zeros(16), *NET, "Dense_1", "bias"), r"Dense_1\.bias has shape 16, expected 2 x 16"),
    "an image": (_with(zeros(3, 3, 4, 8), *POLICY, "Dense_0", "kernel"), r"Dense_0\.kernel has shape 3 x 3 x 4 x 8"),
    "another observation": (
        _with(zeros(2, 9, 12), "critic", "params", "value_net", "Dense_0", "kernel"),
        r"agent\.critic\.params\.value_net\.Dense_0\.kernel has shape 2 x 9 x 12, expected 2 x 6 x any",
    ),
    "another time embedding": (
        _with(zeros(14, 12), *POLICY, "Dense_0", "kernel"),
        r"takes 14 inputs; .* leaves 8 for the time, expected 16 or 1",
    ),
    "nothing": (_with(zeros(0, 0), *POLICY, "Dense_0", "kernel"), r"MLP_0\.Dense_0\.kernel is empty"),
    "a single number": (
        _with(zeros(), *NET, "Dense_1", "bias"),
        r"Dense_1\.bias has shape of a single number, expected",
    ),
    "infinity": (_with(np.full(12, np.inf), *POLICY, "LayerNorm_0", "bias"), r"LayerNorm_0\.bias holds a number that"),
    "not a number": (_with(np.full((2, 16), np.nan), *NET, "Dense_1", "bias"), r"Dense_1\.bias holds a number that"),
    "beyond float32": (_with(np.full((2, 16), 1e300), *NET, "Dense_1", "bias"), r"Dense_1\.bias holds a number that"),
    "whole numbers": (_with(np.zeros(12, np.int32), *POLICY, "Dense_0", "bias"), r"Dense_0\.bias is no array of"),
    "text": (_with("weights", *POLICY, "Dense_0"), r"MLP_0\.Dense_0 is no dictionary"),
    "a list": (_with([1.0], *POLICY, "Dense_0", "bias"), r"MLP_0\.Dense_0\.bias is no array"),
    "a step of text": (_with("8", "policy", "step"), r"agent\.policy\.step is no whole number"),
    "a hostile key": (_with({}, "\x1b[2J\n"), r"agent has an unexpected \\x1b\[2J\\n"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_as_expected_is_named(published: SimpleNamespace, name: str) -> None:
    change, expected = WRONG[name]
    agent = published.agent()
    change(agent)
    with pytest.raises(TrainingError, match=f"params_7.pkl: .*{expected}") as error:
        load_published(published.write(agent))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"ensemble": 3}, "has 3 members, the critic 2"),
        ({}, {"chunk": 3}, "expected 2 x 6 x any"),
    ],
)
def test_networks_of_two_runs_do_not_fit_together(
    published: SimpleNamespace, first: Any, second: Any, expected: str
) -> None:
    agent = {**published.agent(**first), "target_critic": published.agent(**second)["target_critic"]}
    with pytest.raises(TrainingError, match=f"target_critic.*{expected}"):
        load_published(published.write(agent))


def dense(*sizes: int) -> dict[str, Any]:
    """Return the layers of an ensemble of two."""
    pairs = enumerate(zip(sizes, sizes[1:]))
    return {
        f"Dense_{i}": {"kernel": zeros(2, rows, columns), "bias": zeros(2, columns)} for i, (rows, columns) in pairs
    }


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("value", {"value_net": dense(4, 8, 1)}),
        ("policy", {"MLP_0": dense(22, 8), "Dense_0": {"kernel": zeros(2, 8, 2), "bias": zeros(2, 2)}}),
    ],
)
def test_only_a_critic_is_an_ensemble(published: SimpleNamespace, name: str, params: Any) -> None:
    agent = published.agent()
    agent[name]["params"] = params
    with pytest.raises(TrainingError, match=rf"agent\.{name}\S* is an ensemble of 2, expected a single network"):
        load_published(published.write(agent))


def test_a_pickle_of_something_else_is_refused(tmp_path: Any, jax_pickling: SimpleNamespace) -> None:
    path = tmp_path / "params_7.pkl"
    for value, expected in (([1], "the checkpoint is no dictionary"), ({"a": 1}, "the checkpoint has no agent")):
        path.write_bytes(jax_pickling.pickled(value))
        with pytest.raises(TrainingError, match=expected):
            load_published(path)
