"""A small contract, a policy that can be told what to do, and a place to collect what a tick loop says; no ROS in here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.inference import Chunk
from qgf_ros.guidance.shaping import QGF

ARM = ("shoulder", "elbow")


def make_manifest(**changes: Any) -> Manifest:
    """Return a contract of three topics, two actions, horizon 4 at 20 Hz."""
    observation = (
        ObservationField(
            name="angle",
            topic="joint_states",
            message_type="sensor_msgs/msg/JointState",
            extraction="joint_position",
            joints=ARM,
            size=2,
            unit="rad",
        ),
        ObservationField(
            name="effector",
            topic="effector_pose",
            message_type="geometry_msgs/msg/PoseStamped",
            extraction="position",
            size=3,
            unit="m",
        ),
        ObservationField(
            name="contact",
            topic="wrench",
            message_type="geometry_msgs/msg/WrenchStamped",
            extraction="wrench_norm",
            size=1,
            unit="N",
        ),
    )
    action = tuple(ActionField(name=name, unit="m", scale=0.1, lower=-0.1, upper=0.1) for name in ("dx", "dy"))
    critics = {
        name: CriticCard(task=name, discount=0.99, ensemble_size=2, recommended_weight=weight)
        for name, weight in (("near", 0.5), ("far", 2.0))
    }
    values: dict[str, Any] = {
        "name": "fake",
        "observation": observation,
        "action": action,
        "horizon": 4,
        "execution_horizon": 2,
        "control_rate": 20.0,
        "critics": critics,
    }
    return Manifest(**{**values, **changes})


class FakePolicy:
    """A policy whose action is its noise, and that can be made to fail or to wait."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.calls: list[tuple[str, float, int]] = []
        self.observations: list[Any] = []
        self.warm_ups: list[int] = []
        self.failure: Exception | None = None
        self.action_value: float | None = None
        self.critic_failed = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def warm_up(self, num_samples: int = 1) -> None:
        self.warm_ups.append(num_samples)

    def backend(self, critic: str, estimator: str) -> str:
        return "fake"

    def act(
        self, observations: Any, noise: Any, critic: str, guidance_weight: float, guidance: Any = QGF
    ) -> list[Chunk]:
        self.entered.set()
        assert self.gate.wait(60.0)
        if self.failure is not None:
            raise self.failure
        self.calls.append((critic, guidance_weight, noise.shape[1]))
        self.observations.append(observations)
        actions = np.tanh(noise[0, 0].reshape(self.manifest.horizon, -1))
        if self.action_value is not None:
            actions = np.full_like(actions, self.action_value)
        return [Chunk(actions, actions, {"q": 1.5, "critic_failed": self.critic_failed, "latency_ms": 2.0})]


class Recorder:
    """Outputs of a tick loop that can be waited for."""

    watched = True

    def __init__(self) -> None:
        self.commands: list[tuple[list[float], int]] = []
        self.shadows: list[tuple[list[float], int]] = []
        self.telemetry: list[dict[str, Any]] = []
        self.reports: list[tuple[int, str]] = []
        self._condition = threading.Condition()

    def send_command(self, command: Any, *, motion: bool) -> None:
        self.send_hold(command.values, command.stamp, motion=motion)

    def send_hold(self, values: Any, stamp: int, *, motion: bool, moved: bool = False) -> None:
        with self._condition:
            (self.commands if motion else self.shadows).append((list(values), stamp))
            self._condition.notify_all()

    def send_telemetry(self, figures: Any, stamp: int) -> None:
        with self._condition:
            self.telemetry.append(dict(figures))
            self._condition.notify_all()

    def report(self, level: int, text: str) -> None:
        with self._condition:
            self.reports.append((level, text))
            self._condition.notify_all()

    def wait(self, condition: Callable[[Recorder], bool]) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: condition(self), 60.0), (self.commands, self.reports)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.reports]


@pytest.fixture
def manifest_factory() -> Callable[..., Manifest]:
    return make_manifest


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


@pytest.fixture
def policy(manifest: Manifest) -> FakePolicy:
    return FakePolicy(manifest)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def policy_factory() -> Callable[[Manifest], FakePolicy]:
    return FakePolicy
