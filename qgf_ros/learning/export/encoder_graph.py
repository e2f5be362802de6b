"""The ONNX graph of an encoder, of constants and operators alone: pictures and state in, features and state out."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from torch import Tensor

from qgf_ros.bundle.layers import LAYER_NORM_EPS
from qgf_ros.learning.export.primitives import IR_VERSION, OPSET
from qgf_ros.learning.vision.encoder import CONVOLUTIONS, PictureEncoder, Sizes

#: Its input that is no picture; there is none where nothing but pictures is observed.
STATE = "state"


def encoder_graph(encoder: PictureEncoder, sizes: Sizes, state_size: int) -> bytes:
    """Build ``encoder.onnx``: uint8 pictures [N, h, w, 3] by camera and ``state`` [N, S] -> ``z`` [N, F + S].

    Args:
        encoder: Its weights.
        sizes: Of the pictures.
        state_size: S; 0 for no input ``state``.

    Returns:
        The serialised model.
    """
    nodes: list[Any] = []
    weights: dict[str, Any] = {}

    def constant(name: str, value: Tensor | np.ndarray[Any, Any]) -> str:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    scale = constant("1/255", np.array(1.0 / 255.0, np.float32))
    half = constant("1/2", np.array(0.5, np.float32))
    found = []
    for number, name in enumerate(encoder.cameras):
        x = add("Cast", [name], f"{name}.numbers", to=TensorProto.FLOAT)
        x = add("Transpose", [x], f"{name}.planes", perm=[0, 3, 1, 2])
        x = add("Sub", [add("Mul", [x, scale], f"{name}.scaled"), half], f"{name}.centred")
        for index, layer in enumerate(CONVOLUTIONS):
            at = number * len(CONVOLUTIONS) + index
            kernel = constant(f"{name}.{index}.kernel", encoder.kernels[at])
            bias = constant(f"{name}.{index}.bias", encoder.biases[at])
            form = {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4, "kernel_shape": [layer.kernel] * 2}
            x = add("Relu", [add("Conv", [x, kernel, bias], f"{name}.{index}", **form)], f"{name}.{index}.positive")
        found.append(add("Flatten", [x], f"{name}.flat", axis=1))
    x = add("Concat", found, "flat", axis=1) if len(found) > 1 else found[0]
    x = add("Gemm", [x, constant("weight", encoder.weight), constant("bias", encoder.bias)], "dense")
    normed = [x, constant("scale", encoder.scale), constant("shift", encoder.shift)]
    x = add("LayerNormalization", normed, "features" if state_size else "z", epsilon=LAYER_NORM_EPS, axis=-1)
    inputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, ["N", *sizes[n], 3]) for n in encoder.cameras]
    if state_size:
        add("Concat", [x, STATE], "z", axis=1)
        inputs.append(helper.make_tensor_value_info(STATE, TensorProto.FLOAT, ["N", state_size]))
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", encoder.features + state_size])
    graph = helper.make_graph(nodes, "qgf", inputs, [output], list(weights.values()))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="qgf_ros"
    )
    checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised
