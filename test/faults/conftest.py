"""A bundle that is small, made without torch, and may be damaged; a robot that may be made to fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

S, C, HIDDEN = 5, 6, 8


def small_files(critics: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the primitives of random networks of two hidden layers, two critics each.

    The critic ``broken`` returns NaN.
    """
    graphs = pytest.importorskip("qgf_ros.learning.export.primitives", reason="building graphs needs onnx")
    from qgf_ros.bundle.layers import Layer
    from qgf_ros.bundle.store import critic_file

    random = np.random.default_rng(5)

    def layers(inputs: int, outputs: int, norm_last: bool) -> list[object]:
        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal(shape, dtype=np.float32) / 3

        return [
            Layer(normal(inputs, HIDDEN), normal(HIDDEN), 1 + normal(HIDDEN), normal(HIDDEN)),
            Layer(normal(HIDDEN, HIDDEN), normal(HIDDEN), *([1 + normal(HIDDEN), normal(HIDDEN)] * norm_last)),
            Layer(normal(HIDDEN, outputs), normal(outputs)),
        ]

    frequencies = np.array([1.0, 0.1], dtype=np.float32)
    velocity = layers(S + C + 4, C, False)
    yield "velocity.onnx", graphs.velocity_graph(velocity, S, C, frequencies, 30.0, vjp=False)
    yield "velocity_vjp.onnx", graphs.velocity_graph(velocity, S, C, frequencies, 30.0, vjp=True)
    for name in critics:
        ensemble = [layers(S + C, 1, True) for _ in range(2)]
        if name == "broken":
            ensemble[0][-1].bias[:] = np.nan
        yield critic_file(name), graphs.critic_graph(ensemble, S, C, "min")


def write_small_bundle(folder: Path, critics: tuple[str, ...], **changes: Any) -> Path:
    """Write a whole bundle: two fields, two actions, horizon 3; with `changes` of its manifest."""
    from qgf_ros.bundle.demonstrations import demonstrations_of
    from qgf_ros.bundle.fields import ActionField, ObservationField
    from qgf_ros.bundle.manifest import CriticCard, Evaluation, Manifest
    from qgf_ros.bundle.store import write_bundle

    evaluation = Evaluation(
        guidance_weight=0.1,
        episodes=50,
        successes=40,
        ci95=(0.7, 0.9),
        mean_length=80.0,
        first_seed=0,
        last_seed=49,
        purpose="reporting",
    )
    card = CriticCard(task="reach", discount=0.99, ensemble_size=2, recommended_weight=0.1, evaluations=(evaluation,))
    observation = (
        ObservationField(
            name="angle",
            topic="joint_states",
            message_type="sensor_msgs/msg/JointState",
            extraction="joint_position",
            joints=("shoulder", "elbow"),
            size=2,
            unit="rad",
        ),
        ObservationField(
            name="effector",
            topic="effector_pose",
            message_type="geometry_msgs/msg/PoseStamped",
            extraction="position",
            size=S - 2,
            unit="m",
            clip=(-1.0, 1.0),
        ),
    )
    corners = np.array([[0.0, -0.25, -0.4, -0.1, 0.1], [0.2, 0.25, 0.4, 0.1, 0.3]], dtype=np.float32)
    manifest = Manifest(
        name="small",
        observation=observation,
        demonstrations=demonstrations_of(observation, corners, "made-up.npz"),
        action=tuple(
            ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1, max_rate=1.0) for name in ("dx", "dy")
        ),
        horizon=C // 2,
        execution_horizon=2,
        control_rate=20.0,
        critics={name: card for name in critics},
        training={"updates": 1000, "losses": [0.5, 0.25]},
        parity={"velocity.onnx/v": 1e-6},
    )
    write_bundle(folder, manifest.model_copy(update=changes), dict(small_files(critics)))
    return folder


@pytest.fixture(scope="session", autouse=True)
def machine(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Note what the numbers of a run are of."""
    record_testsuite_property("machine", f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before it")


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two critics."""
    return write_small_bundle(tmp_path_factory.mktemp("bundles") / "small", ("near", "far"))


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(small_bundle, tmp_path / "small"))


@pytest.fixture(scope="module")
def make_robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Make robots, of a kind of Robot, each with a bundle of its own, with changes; they publish from then on."""
    pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
    from robot import Robot

    robots: list[Robot] = []

    def make(kind: type[Robot] = Robot, changes: Mapping[str, Any] | None = None, **options: Any) -> Robot:
        folder = tmp_path_factory.mktemp("robot")
        bundle = write_small_bundle(folder / "small", ("near", "broken"), **(changes or {}))
        robots.append(kind(bundle, folder, **options))
        return robots[-1]

    yield make
    for robot in robots:
        robot.close()
