"""encoder.onnx gives what torch gives, for any number of cameras, with and without a state."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
onnx = pytest.importorskip("onnx", reason="exporting needs the train extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="the parity check needs ONNX Runtime")

from qgf_ros.learning.export.encoder_graph import encoder_graph  # noqa: E402
from qgf_ros.learning.export.exported_sight import encoder_inputs, encoder_outputs  # noqa: E402
from qgf_ros.learning.vision.encoder import PictureEncoder, Sizes  # noqa: E402

#: What an encoder may be made of: no constants as operators, nothing whose size follows from values.
OPERATORS = {"Cast", "Transpose", "Mul", "Sub", "Conv", "Relu", "Flatten", "Concat", "Gemm", "LayerNormalization"}


@pytest.mark.parametrize("state", [0, 5])
@pytest.mark.parametrize("sizes", [{"camera": (64, 64)}, {"wrist": (8, 20), "front": (33, 16)}], ids=["one", "two"])
def test_onnx_runtime_gives_what_torch_gives(sizes: Sizes, state: int) -> None:
    encoder = PictureEncoder(sizes, 16, torch.Generator().manual_seed(2)).requires_grad_(False)
    for parameter in encoder.parameters():  # biases, scales and shifts, too, are as after training
        parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    content = encoder_graph(encoder, sizes, state)
    inputs = encoder_inputs({name: list(size) for name, size in sizes.items()}, state)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (z,) = session.run(["z"], inputs)
    assert z.shape == (64, 16 + state)
    np.testing.assert_allclose(z, encoder_outputs(encoder, inputs).numpy(), atol=2e-5)
    alone = {name: value[3:4] for name, value in inputs.items()}
    np.testing.assert_allclose(session.run(["z"], alone)[0], z[3:4], atol=2e-5)


def test_the_graph_has_its_inputs_by_name_and_plain_operators_alone() -> None:
    sizes = {"wrist": (8, 20), "front": (33, 16)}
    model = onnx.load_from_string(encoder_graph(PictureEncoder(sizes, 16), sizes, 5))
    shapes = {i.name: [d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert shapes == {"wrist": ["N", 8, 20, 3], "front": ["N", 33, 16, 3], "state": ["N", 5]}
    assert {node.op_type for node in model.graph.node} <= OPERATORS
    assert all(weight.raw_data for weight in model.graph.initializer)
    blind = onnx.load_from_string(encoder_graph(PictureEncoder(sizes, 16), sizes, 0))
    assert "state" not in [i.name for i in blind.graph.input]
