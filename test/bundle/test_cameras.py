"""Cameras of a bundle: its manifest, its encoders and their graphs, and a bundle without any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="building encoders needs onnx")

from camera_bundles import CAMERAS, Z, camera_manifest, encoder_graph, serialised, write_camera_bundle  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from qgf_ros.bundle.cameras import CameraField, Encoding  # noqa: E402
from qgf_ros.bundle.fields import ObservationField  # noqa: E402
from qgf_ros.bundle.graphs import ENCODER_OPERATORS, Signature, check_graph  # noqa: E402
from qgf_ros.bundle.manifest import Manifest  # noqa: E402
from qgf_ros.bundle.store import file_record, load_manifest, read_bundle, update_manifest  # noqa: E402
from qgf_ros.errors import BundleError  # noqa: E402

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "models").glob("*/manifest.json"))
BLIND = [path for path in SHIPPED if "cameras" not in json.loads(path.read_bytes())]


def test_a_bundle_that_sees_is_read_as_it_was_written(tmp_path: Path) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing", critics={"near": None, "far": 5})
    manifest, files = read_bundle(bundle)
    assert dict(manifest.cameras) == CAMERAS
    assert (manifest.observation_size, manifest.feature_size) == (2, Z)
    assert (manifest.critic_feature_size("near"), manifest.critic_feature_size("far")) == (Z, 5)
    assert {"encoder.onnx", "critics/far/encoder.onnx"} <= set(files)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_policy_may_see_and_measure_nothing(tmp_path: Path) -> None:
    manifest = load_manifest(write_camera_bundle(tmp_path / "seeing", state=False))
    assert (manifest.observation_size, manifest.feature_size) == (0, Z)


@pytest.mark.parametrize("path", BLIND, ids=lambda path: path.parent.name)
def test_the_manifest_of_a_bundle_without_cameras_is_the_same_bytes(path: Path, tmp_path: Path) -> None:
    written = path.read_bytes()
    manifest = Manifest.model_validate_json(written)
    update_manifest(tmp_path, manifest) if (tmp_path / "manifest.json").write_bytes(written) else None
    assert "cameras" not in manifest.model_dump()
    assert manifest.feature_size == manifest.observation_size
    assert json.loads((tmp_path / "manifest.json").read_bytes()).keys() == json.loads(manifest.model_dump_json()).keys()
    assert not {"cameras", "encoding"} & json.loads((tmp_path / "manifest.json").read_bytes()).keys()


@pytest.mark.parametrize("missing", ["encoder.onnx", "critics/far/encoder.onnx"])
def test_an_encoder_that_is_not_listed_is_named(tmp_path: Path, missing: str) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing", critics={"far": 5})
    values = json.loads((bundle / "manifest.json").read_text())
    del values["files"][missing]
    (bundle / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=f"does not list {missing}; export the bundle again"):
        load_manifest(bundle)


def replaced(bundle: Path, name: str, content: bytes) -> Path:
    """Replace a file of a bundle, and its record."""
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = file_record(content).model_dump()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def test_an_encoder_for_other_cameras_is_refused(tmp_path: Path) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing")
    for cameras, sentence in (
        ({"wrist": CAMERAS["wrist"]}, "inputs wrist, state were found, expected wrist, front, state"),
        (
            {**CAMERAS, "front": CAMERAS["front"].model_copy(update={"size": (8, 16)})},
            r"input front of shape \[N, 8, 16, 3\] was found, expected \[N, 8, 8, 3\]",
        ),
    ):
        replaced(bundle, "encoder.onnx", encoder_graph(cameras, 2, Z))
        with pytest.raises(BundleError, match=sentence):
            load_manifest(bundle)
    replaced(bundle, "encoder.onnx", encoder_graph(CAMERAS, 2, Z + 1))
    with pytest.raises(BundleError, match=r"output z of shape \[N, 8\] was found, expected \[N, 7\]"):
        load_manifest(bundle)


def test_a_velocity_field_may_not_convolve(tmp_path: Path) -> None:
    bundle = write_camera_bundle(tmp_path / "seeing")
    replaced(bundle, "velocity.onnx", encoder_graph(CAMERAS, 2, Z))
    with pytest.raises(BundleError, match="the operator 'Conv' was found, expected arithmetic on tensors"):
        load_manifest(bundle)


def graph_of(*nodes: Any, **weights: Any) -> bytes:
    """Return a graph from images ``x`` to ``z``."""
    images = helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 8, 8, 3])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4])
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    return serialised(list(nodes), [images], [z], kept)


SIGNATURE = Signature({}, {"z": (None, 4)}, {"x": (None, 8, 8, 3)}, ENCODER_OPERATORS)
node = helper.make_node


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (lambda: graph_of(node("Resize", ["x", "", "y"], ["z"])), "a Resize to what only an input can tell"),
        (lambda: graph_of(node("Resize", ["x"], ["z"])), "a Resize to what only an input can tell"),
        (
            lambda: graph_of(node("Resize", ["x", "", "", "to"], ["z"]), to=np.array([1, 8, 4096, 3])),
            "a Resize to 4096 was found, expected at most 2048",
        ),
        (
            lambda: graph_of(
                node("Resize", ["x", "", "by"], ["y"]),
                node("Resize", ["y", "", "by"], ["z"]),
                by=np.float32([1, 3, 3, 1]),
            ),
            "Resizes by 9 were found, expected at most 8 together",
        ),
        (
            lambda: graph_of(node("Resize", ["x", "", "by"], ["z"]), by=np.float32([1, 8, 8, 8])),
            "Resizes to 512 times the numbers were found, expected at most two axes enlarged so",
        ),
        (
            lambda: graph_of(node("Resize", ["x", "", "", "to"], ["z"]), to=np.array([1, 2048, 2048, 2048])),
            "a Resize to 2048 was found, expected at most 2048, and at most 16777216 numbers in all",
        ),
        (
            lambda: graph_of(node("Resize", ["x", "", "by"], ["z"]), by=np.float32([np.nan])),
            "Resizes by nan were found",
        ),
        (
            lambda: graph_of(node("Resize", ["x", "", "by"], ["z"]), by=np.ones(9, dtype=np.float32)),
            "weights of more than|a Resize of more than 8 axes",
        ),
        (
            lambda: graph_of(node("Resize", ["x", "", "by"], ["z"]), by=np.ones(4, dtype=bool)),
            "a Resize by something else than numbers",
        ),
        (
            lambda: graph_of(node("MaxPool", ["x"], ["z"], kernel_shape=[3, 3], pads=[3000, 3000, 3000, 3000])),
            "12000 rows and columns of padding were found, expected at most 4096",
        ),
        (
            lambda: graph_of(node("Conv", ["x"], ["z"], pads=[-1, 0, 0, 0])),
            "rows and columns of padding were found",
        ),
        (lambda: graph_of(node("Pad", ["x", "p"], ["z"])), "the operator 'Pad' was found"),
        (lambda: graph_of(node("ConvTranspose", ["x", "k"], ["z"])), "the operator 'ConvTranspose' was found"),
        (lambda: graph_of(node("Expand", ["x", "s"], ["z"])), "the operator 'Expand' was found"),
    ],
)
def test_an_encoder_that_could_become_enormous_is_refused(graph: Callable[[], bytes], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_graph(graph(), SIGNATURE)


def test_what_vision_needs_is_allowed() -> None:
    nodes = (
        node("Resize", ["x", "", "by"], ["a"]),
        node("Conv", ["a", "k"], ["b"], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Reshape", ["c", "shape"], ["z"]),
    )
    weights = {"by": np.float32([1, 1, 2, 2]), "k": np.zeros((4, 3, 3, 3), np.float32), "shape": np.array([0, 4])}
    check_graph(graph_of(*nodes, **weights), SIGNATURE)


def test_images_are_bytes_and_features_are_not() -> None:
    with pytest.raises(ValueError, match="'x' of another type than float32 was found"):
        check_graph(graph_of(node("Relu", ["x"], ["z"])), Signature({"x": (None, 8, 8, 3)}, {"z": (None, 4)}))


CAMERA = {"topic": "image_raw", "width": 640, "height": 480, "size": (64, 64)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"crop": (600, 0, 64, 64)}, "does not lie in the picture of 640 x 480 pixels"),
        ({"crop": (0, -1, 64, 64)}, "greater than or equal to 0"),
        ({"size": (64, 4096)}, "less than or equal to 1024"),
        ({"width": 100_000}, "less than or equal to 8192"),
        ({"encoding": "bayer_rggb8"}, "'rgb8', 'bgr8' or 'mono8'"),
        ({"type": "stereo_msgs/msg/DisparityImage"}, "sensor_msgs/msg/Image"),
        ({"brightness": (200.0, 20.0)}, r"must be \(lowest, highest\)"),
        ({"max_age": 0.0}, "max_age"),
        ({"clock_offset": float("nan")}, "finite"),
        ({"shutter": 1}, "shutter"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        CameraField.model_validate({**CAMERA, **change})


def test_the_clock_of_a_camera_may_be_ahead() -> None:
    camera = CameraField(topic="image_raw", width=4, height=4, size=(4, 4), clock_offset=0.25)
    assert camera.host_stamp(1_000_000_000) == 750_000_000
    assert camera.host_stamp(0) == 0, "which is no time, and to be told from one that is off"


TWIN = CAMERAS["wrist"]
JOINTS = ObservationField(
    name="angle",
    topic=TWIN.topic,
    message_type="sensor_msgs/msg/JointState",
    extraction="joint_position",
    joints=("shoulder",),
    size=1,
    unit="rad",
)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoding": None}, "cameras were given without an encoding"),
        ({"cameras": {}}, "an encoding was given without cameras"),
        ({"cameras": {}, "encoding": None, "observation": ()}, "a policy must see something"),
        ({"cameras": {"state": TWIN}}, "a camera is named state"),
        ({"cameras": {"a": TWIN, "b": TWIN}}, "camera b and camera a share topic wrist/image_raw"),
        ({"observation": (JOINTS,)}, "camera wrist and field angle share topic wrist/image_raw"),
        (
            {"encoding": Encoding(features=Z, critics={"nobody": 3})},
            "critic nobody has an encoder, but the critics are near",
        ),
        ({"cameras": {f"c{i}": TWIN.model_copy(update={"topic": f"t{i}"}) for i in range(17)}}, "at most 16 items"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        camera_manifest(**changes)


@pytest.mark.parametrize(
    ("camera", "by"),
    [
        ({"width": 640, "height": 480, "size": (64, 64)}, 2),
        ({"width": 640, "height": 480, "size": (60, 80)}, 4),
        ({"width": 640, "height": 480, "size": (30, 40)}, 8),
        ({"width": 640, "height": 480, "size": (30, 40), "crop": (2, 0, 320, 240)}, 2),
        ({"width": 1280, "height": 720, "size": (64, 64), "crop": (280, 0, 720, 720)}, 4),
    ],
)
def test_a_picture_is_reduced_so_that_two_pixels_remain_for_each_that_is_seen(camera: dict[str, Any], by: int) -> None:
    field = CameraField(topic="c", type="sensor_msgs/msg/CompressedImage", decode="reduced", **camera)
    assert field.reduction == by
    assert field.model_copy(update={"decode": "full"}).reduction == 1


@pytest.mark.parametrize(
    "camera",
    [
        {"type": "sensor_msgs/msg/Image", "size": (64, 64)},
        {"size": (121, 160)},
        {"size": (64, 64), "crop": (1, 0, 638, 480)},
        {"size": (64, 64), "crop": (0, 0, 640, 200)},
    ],
)
def test_a_picture_that_cannot_be_reduced_is_told_from_the_beginning(camera: dict[str, Any]) -> None:
    settings = {"topic": "c", "type": "sensor_msgs/msg/CompressedImage", "width": 640, "height": 480, **camera}
    with pytest.raises(ValidationError, match="camera on c: decode reduced is for JPEG files whose picture and crop"):
        CameraField(decode="reduced", **settings)
