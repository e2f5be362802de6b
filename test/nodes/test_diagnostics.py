"""Diagnostic messages and the throttle of the log."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="diagnostics need the ros extra or a ROS 2 installation")

from qgf_ros.nodes.diagnostics import DIAGNOSTICS_PERIOD, Throttle, diagnostic_array


def test_a_status_carries_its_figures_as_text_that_reads_back() -> None:
    array = diagnostic_array(1_500_000_000, "node: tick", "fake", 1, "hm", {"q": 0.1 + 0.2, "tick": 3, "critic": "a"})
    assert (array.header.stamp.sec, array.header.stamp.nanosec) == (1, 500_000_000)
    (status,) = array.status
    assert (status.level, status.name, status.hardware_id, status.message) == (b"\x01", "node: tick", "fake", "hm")
    values = {value.key: value.value for value in status.values}
    assert float(values["q"]) == 0.1 + 0.2
    assert (values["tick"], values["critic"]) == ("3", "a")


def test_the_same_complaint_with_other_numbers_is_throttled() -> None:
    throttle = Throttle(5.0)
    assert throttle.passes("pose is stale, 0.213 s old", 0.0)
    assert not throttle.passes("pose is stale, 0.263 s old", 0.05)
    assert throttle.passes("wrench is stale, 0.2 s old", 0.1)
    assert throttle.passes("pose is stale, 5.2 s old", 5.0)


def test_topics_that_differ_in_a_number_are_different_complaints() -> None:
    throttle = Throttle(5.0)
    assert throttle.passes("topic object_0_pose is stale, 0.2 s old", 0.0)
    assert throttle.passes("topic object_1_pose is stale, 0.2 s old", 0.0)


def test_a_node_says_once_a_second_how_it_is_as_its_pages_say() -> None:
    assert DIAGNOSTICS_PERIOD == 1.0
    for page, words in (("ros_interface.md", "| 1 Hz; state, reason of a hold"), ("diagnostics.md", "once a second")):
        assert words in (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
