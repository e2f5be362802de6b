"""Policy nodes around the fake policy of `fakes`, over DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import FakePolicy, manifest, manifest_factory, policy, policy_factory, recorder
from spinning import SpinningThread

from qgf_ros.bundle.manifest import Manifest

__all__ = ["manifest", "manifest_factory", "policy", "policy_factory", "recorder"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A ROS context in a domain of the tests' own."""
    import rclpy
    from peer import DOMAIN

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
        patch.setenv("ROS_HOME", str(tmp_path_factory.mktemp("ros_home")))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        context = rclpy.context.Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        yield context
        context.try_shutdown()


@pytest.fixture
def peer(context: Any) -> Iterator[Any]:
    """Robot and operator of a policy node."""
    from peer import Peer

    peer = Peer(context)
    yield peer
    peer.close()


@pytest.fixture
def diagnostics_period(monkeypatch: pytest.MonkeyPatch) -> float:
    """How often the nodes of a test say how they are [s]: oftener than usual, so that it waits less for that."""
    from qgf_ros.nodes import diagnostics

    monkeypatch.setattr(diagnostics, "DIAGNOSTICS_PERIOD", 0.1)
    return diagnostics.DIAGNOSTICS_PERIOD


@pytest.fixture
def start(context: Any, policy: FakePolicy, diagnostics_period: float) -> Iterator[Callable[..., Any]]:
    """Run policy nodes around the fake policy, each spinning in a thread."""
    from rclpy.parameter import Parameter

    from qgf_ros.nodes.policy_node import PolicyNode

    running: list[tuple[Any, SpinningThread]] = []

    def run(*, loader: Any = None, **values: Any) -> Any:
        values = {"bundle": "fake", "trigger": "observation", "enable_motion": True, **values}
        node = PolicyNode(
            policy_loader=loader or (lambda *_: policy),
            context=context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        running.append((node, SpinningThread(context, node)))
        return node

    yield run
    policy.gate.set()
    for node, thread in running:
        thread.close()
        node.destroy_node()


@pytest.fixture
def active(start: Callable[..., Any], peer: Any, manifest: Manifest) -> Any:
    """A peer beside an active node that follows simulated time."""
    start(use_sim_time=True)
    peer.activate(manifest.observation)
    return peer
