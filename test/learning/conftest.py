"""Tiny networks train faster on one thread; checkpoints in the published layout are made without JAX."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch on one thread for the length of a test."""
    torch = pytest.importorskip("torch", reason="training needs the train extra")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Named:
    """Something callable that pickles as any name, whether or not there is such a thing."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise AssertionError("never called")

    def __reduce__(self) -> str:
        return self.name


class JaxArray:
    """A NumPy array that pickles as JAX pickles its arrays."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    def __reduce__(self) -> Any:
        function, arguments, state = self.array.__reduce__()
        name = Named("jax._src.array", "_reconstruct_array")
        return name, (function, arguments, state, {"weak_type": False})


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes the names of `Named` without looking for them."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if not isinstance(obj, Named):
            super().save_global(obj, name)
            return
        if self.proto >= 4:
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)


def pickled(value: Any, protocol: int = 4) -> bytes:
    """Pickle a value in which `Named` and `JaxArray` may stand."""
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def published_agent(
    *,
    observation: int = 4,
    chunk: int = 2,
    hidden: tuple[int, ...] = (12, 16, 8),
    ensemble: int = 2,
    norm: bool = True,
    sinusoidal: bool = True,
) -> dict[str, Any]:
    """Return the state dictionary of a published QGFAgent with random weights, as NumPy arrays."""
    random = np.random.default_rng(5)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, dtype=np.float32)

    def mlp(inputs: int, sizes: tuple[int, ...], normed: int, *lead: int) -> dict[str, Any]:
        layers: dict[str, Any] = {}
        for i, (fan_in, fan_out) in enumerate(zip((inputs, *sizes), sizes)):
            kernel = normal(*lead, fan_in, fan_out) / np.float32(np.sqrt(fan_in))
            layers[f"Dense_{i}"] = {"kernel": kernel, "bias": 0.1 * normal(*lead, fan_out)}
            if norm and i < normed:
                scale = 1 + 0.3 * normal(*lead, fan_out)
                layers[f"LayerNorm_{i}"] = {"scale": scale, "bias": 0.2 * normal(*lead, fan_out)}
        return layers

    def state(params: dict[str, Any]) -> dict[str, Any]:
        moments = {"count": np.array(7, np.int32), "mu": params, "nu": params}
        return {"step": np.array(8, np.int32), "params": params, "opt_state": {"0": moments, "1": {}}}

    def critic(inputs: int, *lead: int) -> dict[str, Any]:
        return state({"value_net": mlp(inputs, (*hidden, 1), len(hidden), *lead)})

    lead = (ensemble,) if ensemble > 1 else ()
    trunk = mlp(observation + chunk + (16 if sinusoidal else 1), hidden, len(hidden) - 1)
    head = {"kernel": normal(hidden[-1], chunk) / np.float32(np.sqrt(hidden[-1])), "bias": 0.1 * normal(chunk)}
    return {
        "rng": np.array([1, 2], np.uint32),
        "policy": state({"MLP_0": trunk, "Dense_0": head}),
        "critic": critic(observation + chunk, *lead),
        "target_critic": {**critic(observation + chunk, *lead), "step": 1, "opt_state": None},
        "value": critic(observation),
    }


def as_jax(node: Any) -> Any:
    """Return a state dictionary whose arrays pickle as JAX's."""
    if isinstance(node, dict):
        return {key: as_jax(value) for key, value in node.items()}
    return JaxArray(node) if isinstance(node, np.ndarray) else node


@pytest.fixture
def jax_pickling() -> SimpleNamespace:
    """Return what writes pickles with JAX's arrays in them, and any other name."""
    return SimpleNamespace(Named=Named, JaxArray=JaxArray, pickled=pickled)


@pytest.fixture
def published(tmp_path: Path) -> SimpleNamespace:
    """Return `agent`, which makes a state dictionary, and `write`, which saves one as the published code does."""

    def write(agent: dict[str, Any], protocol: int = 4) -> Path:
        path = tmp_path / "params_7.pkl"
        path.write_bytes(pickled({"agent": as_jax(agent)}, protocol))
        return path

    return SimpleNamespace(agent=published_agent, write=write)
