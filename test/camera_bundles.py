"""Small bundles that see: random convolutions and networks of a few KB, made with neither torch nor a renderer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from qgf_ros.bundle.cameras import CameraField, Encoding
from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.layers import Layer
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.bundle.store import critic_file, encoder_file, write_bundle

#: Features, chunk and hidden units; horizon 3 of two actions.
Z, C, HIDDEN = 7, 6, 8

CAMERAS = {
    "wrist": CameraField(topic="wrist/image_raw", width=16, height=12, size=(6, 8), crop=(0, 0, 16, 12)),
    "front": CameraField(
        topic="front/image_raw/compressed",
        type="sensor_msgs/msg/CompressedImage",
        width=20,
        height=20,
        crop=(2, 4, 16, 16),
        size=(8, 8),
        interpolation="linear",
    ),
}


def encoder_graph(
    cameras: Mapping[str, CameraField], state: int, features: int, *, seed: int = 3, **broken: float
) -> bytes:
    """Return an encoder: a strided convolution and a dense layer for each camera, and the state through a dense layer.

    Args:
        cameras: Its inputs.
        state: Length of the input ``state``; 0 for none.
        features: Length of ``z``.
        seed: Of its weights.
        broken: ``bias`` of the features, such as NaN.
    """
    random = np.random.default_rng(seed)
    nodes, weights, inputs, parts = [], [], [], []

    def weight(name: str, values: Any) -> str:
        weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    for name, camera in cameras.items():
        height, width = camera.size
        inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", height, width, 3]))
        out = 4 * ((height - 1) // 2) * ((width - 1) // 2)
        kernel = random.standard_normal((4, 3, 3, 3), dtype=np.float32) / 5
        dense = random.standard_normal((out, features), dtype=np.float32) / np.float32(np.sqrt(out))
        nodes += [
            helper.make_node("Cast", [name], [f"{name} float"], to=TensorProto.FLOAT),
            helper.make_node("Div", [f"{name} float", weight(f"{name} 255", np.float32(255))], [f"{name} scaled"]),
            helper.make_node("Transpose", [f"{name} scaled"], [f"{name} planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", [f"{name} planes", weight(f"{name} k", kernel)], [f"{name} conv"], strides=[2, 2]),
            helper.make_node("Relu", [f"{name} conv"], [f"{name} relu"]),
            helper.make_node("Flatten", [f"{name} relu"], [f"{name} flat"]),
            helper.make_node("MatMul", [f"{name} flat", weight(f"{name} w", dense)], [f"{name} z"]),
        ]
        parts.append(f"{name} z")
    if state:
        inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", state]))
        dense = random.standard_normal((state, features), dtype=np.float32) / 2
        nodes.append(helper.make_node("MatMul", ["state", weight("state w", dense)], ["state z"]))
        parts.append("state z")
    bias = np.full(features, broken.get("bias", 0.0), dtype=np.float32)
    total = parts[0]
    for part in [*parts[1:], weight("bias", bias)]:
        nodes.append(helper.make_node("Add", [total, part], [f"{total} + {part}"]))
        total = f"{total} + {part}"
    nodes.append(helper.make_node("Tanh", [total], ["z"]))
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", features])
    return serialised(nodes, inputs, [output], weights)


def serialised(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> bytes:
    """Return a model."""
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def camera_files(
    cameras: Mapping[str, CameraField], state: int, critics: Mapping[str, int | None], chunk: int = C, **broken: float
) -> dict[str, bytes]:
    """Return the files of a bundle.

    Args:
        cameras: Its cameras.
        state: Length S of the observation vector.
        critics: Of each critic, how many features an encoder of its own has; None without one.
        chunk: Length of the chunk.
        broken: See `encoder_graph`; of the encoders of critics.
    """
    from qgf_ros.learning.export.primitives import critic_graph, velocity_graph

    random = np.random.default_rng(5)

    def layers(inputs: int, outputs: int, norm_last: bool) -> list[Layer]:
        def normal(*shape: int) -> Any:
            return random.standard_normal(shape, dtype=np.float32) / 3

        return [
            Layer(normal(inputs, HIDDEN), normal(HIDDEN), 1 + normal(HIDDEN), normal(HIDDEN)),
            Layer(normal(HIDDEN, HIDDEN), normal(HIDDEN), *([1 + normal(HIDDEN), normal(HIDDEN)] * norm_last)),
            Layer(normal(HIDDEN, outputs), normal(outputs)),
        ]

    frequencies = np.array([1.0, 0.1], dtype=np.float32)
    velocity = layers(Z + chunk + 4, chunk, False)
    files = {encoder_file(): encoder_graph(cameras, state, Z)}
    for vjp, name in ((False, "velocity.onnx"), (True, "velocity_vjp.onnx")):
        files[name] = velocity_graph(velocity, Z, chunk, frequencies, 30.0, vjp=vjp)
    for number, (name, own) in enumerate(critics.items()):
        size = own or Z
        files[critic_file(name)] = critic_graph([layers(size + chunk, 1, True) for _ in range(2)], size, chunk, "min")
        if own:
            files[encoder_file(name)] = encoder_graph(cameras, state, own, seed=20 + number, **broken)
    return files


def camera_manifest(
    cameras: Mapping[str, CameraField] = CAMERAS,
    critics: Mapping[str, int | None] | None = None,
    *,
    state: bool = True,
    **changes: Any,
) -> Manifest:
    """Return the manifest of such a bundle; its state is the two joints of an arm, or nothing."""
    critics = {"near": None} if critics is None else critics
    angle = ObservationField(
        name="angle",
        topic="joint_states",
        message_type="sensor_msgs/msg/JointState",
        extraction="joint_position",
        joints=("shoulder", "elbow"),
        size=2,
        unit="rad",
    )
    card = CriticCard(task="reach", discount=0.99, ensemble_size=2, recommended_weight=0.1)
    values: dict[str, Any] = {
        "name": "seeing",
        "observation": (angle,) if state else (),
        "cameras": dict(cameras),
        "encoding": Encoding(features=Z, critics={name: own for name, own in critics.items() if own}),
        "action": tuple(
            ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=1.0) for name in ("dx", "dy")
        ),
        "horizon": 3,
        "execution_horizon": 2,
        "control_rate": 20.0,
        "critics": {name: card for name in critics},
    }
    return Manifest(**{**values, **changes})


def write_camera_bundle(
    folder: Path,
    cameras: Mapping[str, CameraField] = CAMERAS,
    critics: Mapping[str, int | None] | None = None,
    *,
    state: bool = True,
    broken: Mapping[str, float] | None = None,
    **changes: Any,
) -> Path:
    """Write such a bundle, whole, and return its folder."""
    critics = {"near": None} if critics is None else critics
    manifest = camera_manifest(cameras, critics, state=state, **changes)
    files = camera_files(cameras, manifest.observation_size, critics, manifest.chunk_size, **(broken or {}))
    write_bundle(folder, manifest, files)
    return folder
