"""Runs of a session over buffers that stay where they are.

A GPU replays what it captured from the same addresses only, and nothing is allocated in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from qgf_ros.guidance.protocols import Array
from qgf_ros.runtime.session import CUDA, TENSORRT

#: Shapes of inputs that have buffers and may have a captured graph of their own; further ones are run without.
KEPT = 16
_NOT_CAPTURED = -1


def device_of(provider: str) -> str:
    """Return where an execution provider keeps its buffers."""
    return "cuda" if provider in (CUDA, TENSORRT) else "cpu"


class BoundSession:
    """A session whose inputs and outputs, all float32, are bound to buffers of a device.

    Args:
        session: From `open_session`, with `capture`.
        device: Where the buffers are, from `device_of`.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        self._session = session
        self._device = device
        self._kept: dict[tuple[tuple[int, ...], ...], _Buffers] = {}

    def __call__(
        self, feeds: Mapping[str, Array], outputs: Mapping[str, tuple[int, ...]], *, capture: bool = True
    ) -> list[Array]:
        """Run once.

        Args:
            feeds: Inputs by name; another dtype than float32 is converted.
            outputs: Shapes of the outputs by name; the same for the same shapes of the inputs.
            capture: Whether a graph may be captured, where these shapes are new, which takes longer than a run.

        Returns:
            The outputs, copied out of their buffers.
        """
        shapes = tuple(value.shape for value in feeds.values())
        buffers = self._kept.get(shapes)
        if buffers is None:
            room = len(self._kept) < KEPT
            buffers = self._allocate(feeds, outputs, len(self._kept) + 1 if room and capture else _NOT_CAPTURED)
            if room:
                self._kept[shapes] = buffers
        for name, value in feeds.items():
            # The buffer takes bytes, whatever they mean.
            buffers.inputs[name].update_inplace(np.asarray(value, dtype=np.float32, order="C"))
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        return [np.array(value.numpy()) for value in buffers.outputs]

    def _allocate(self, feeds: Mapping[str, Array], outputs: Mapping[str, tuple[int, ...]], graph: int) -> _Buffers:
        def buffer(shape: tuple[int, ...]) -> onnxruntime.OrtValue:
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self._device, 0)

        binding = self._session.io_binding()
        inputs = {name: buffer(value.shape) for name, value in feeds.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        results = {name: buffer(shape) for name, shape in outputs.items()}
        for name, value in results.items():
            binding.bind_ortvalue_output(name, value)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return _Buffers(binding, inputs, list(results.values()), options)


class _Buffers(NamedTuple):
    """Buffers for one set of shapes, bound, and the number of the graph that is captured over them."""

    binding: Any
    inputs: dict[str, Any]
    outputs: list[Any]
    options: Any
