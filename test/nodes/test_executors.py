"""The executor that is asked for, or the one that every rclpy has."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("rclpy", reason="the executors need the ros extra or a ROS 2 installation")

from qgf_ros.errors import GuidanceError
from qgf_ros.nodes.executors import make_executor


def test_the_executor_asked_for_is_made_or_else_the_one_every_rclpy_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from rclpy.context import Context

    context = Context()
    context.init()

    def made(*name: str) -> str:
        executor = make_executor(*name, context=context)
        executor.spin_once(timeout_sec=0.0)
        executor.shutdown()
        return type(executor).__name__

    try:
        assert made() == made("single_threaded") == "SingleThreadedExecutor"
        experimental = pytest.importorskip("rclpy.experimental", reason="Humble has no EventsExecutor")
        assert made("events") == experimental.EventsExecutor.__name__
        monkeypatch.setitem(sys.modules, "rclpy.experimental", None)  # as in Humble
        assert made("events") == "SingleThreadedExecutor"
        with pytest.raises(GuidanceError, match="executor 'fast' was given; it must be single_threaded or events"):
            make_executor("fast", context=context)
    finally:
        context.try_shutdown()
