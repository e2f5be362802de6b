"""The way of an observation through the house, read off one tick: docs/design.md lists the modules that it enters."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the policy node needs the ros extra or a ROS 2 installation")

from rclpy.parameter import Parameter

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.extraction import READING_TYPES, JointReading, PoseReading, WrenchReading
from qgf_ros.control.inference import ChunkRequest
from qgf_ros.control.observation import Observation
from qgf_ros.loop.tick_loop import Tick
from qgf_ros.nodes.messages import to_message
from qgf_ros.nodes.policy_node import PolicyNode

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = f"{ROOT / 'qgf_ros'}/"
#: As many modules as an observation may enter on its way from message to action.
MOST_MODULES = 12
CARRIERS = (Tick, Observation, ChunkRequest, *READING_TYPES.values())


class Way:
    """The modules that are called with an observation, in the order of their first call, while it is `open`.

    Args:
        size: Of the vector that the policy is given.
        messages: That tell the observation, by topic.
    """

    def __init__(self, size: int, messages: Mapping[str, Any]) -> None:
        self.modules: list[str] = []
        self.open = False
        self._size = size
        self._messages = tuple(messages.values())

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if not self.open or event != "call" or not code.co_filename.startswith(PRODUCT):
            return
        module = code.co_filename.removeprefix(PRODUCT).removesuffix(".py")
        if module in self.modules:
            return
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)
        given = [frame.f_locals.get(name) for name in code.co_varnames[:count] if name != "self"]
        parts = [part for value in given for part in (value if isinstance(value, (list, tuple)) else (value,))]
        if any(self._is_observation(part) for part in parts):
            self.modules.append(module)

    def _is_observation(self, value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return value.dtype == np.float32 and value.shape[-1:] == (self._size,)
        return isinstance(value, CARRIERS) or any(value is message for message in self._messages)


@contextmanager
def profiled(way: Way) -> Iterator[None]:
    """Profile this thread and those that start meanwhile."""
    sys.setprofile(way)
    threading.setprofile(way)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def messages(manifest: Manifest, stamp: int) -> dict[str, Any]:
    """Return a message for every topic of cube-single's contract, stamped `stamp` [ns]."""
    joints = dict.fromkeys(joint for field in manifest.observation for joint in field.joints)
    zeros = np.zeros(len(joints))
    still = {
        "sensor_msgs/msg/JointState": JointReading(tuple(joints), zeros, zeros, zeros),
        "geometry_msgs/msg/PoseStamped": PoseReading(np.array([0.4, 0.0, 0.2]), np.array([0.0, 0.0, 0.0, 1.0])),
        "geometry_msgs/msg/WrenchStamped": WrenchReading(np.zeros(3), np.zeros(3)),
    }
    return {field.topic: to_message(still[field.message_type], stamp) for field in manifest.observation}


def test_an_observation_enters_the_modules_that_the_design_lists(context: Any, tiny_policy: Any) -> None:
    manifest = tiny_policy.manifest
    assert manifest.observation_size not in (manifest.chunk_size, manifest.action_size), "told apart by their size"
    stamp = 10**9
    observed = messages(manifest, stamp)
    way, sent = Way(manifest.observation_size, observed), threading.Event()
    values = {"bundle": "tiny", "trigger": "observation", "enable_motion": True}
    node = PolicyNode(
        policy_loader=lambda *_: tiny_policy,
        context=context,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    node._now = lambda: stamp  # however slow the machine, nothing is stale
    try:
        with profiled(way):
            assert node.bring_up(), node.failure
            (publisher,) = node._configured.commander.publishers
            publisher.publish = lambda message: sent.set()
            way.open = True
            for topic, message in observed.items():
                node._on_message(topic, message)
            assert sent.wait(60.0), node._configured.pipeline.health()
            way.open = False
    finally:
        node.destroy_node()
    listed = re.search(r"twelve modules:\n\n((?: {4}.*\n)+)", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    assert listed is not None
    assert way.modules == re.findall(r"[\w/]+", listed[1])
    assert len(way.modules) <= MOST_MODULES
