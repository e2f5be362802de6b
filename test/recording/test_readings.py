"""Observations of recorded readings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mcap", reason="recordings need the record extra")
pytest.importorskip("rclpy", reason="messages need the ros extra or a ROS 2 installation")

from std_msgs.msg import Float64MultiArray

from qgf_ros.bundle.fields import ObservationField
from qgf_ros.errors import RecordingError
from qgf_ros.nodes.diagnostics import diagnostic_array
from qgf_ros.recording.epochs import Restart
from qgf_ros.recording.readings import observation_sources
from qgf_ros.recording.recorded_commands import TELEMETRY, commanded
from qgf_ros.recording.recording import Recorded, Recording

Make = Callable[..., Any]


def test_a_goal_outlives_a_restart_of_the_clock_and_a_measurement_does_not(
    write: Make, as_received: Make, joint_message: Make, manifest_of: Make
) -> None:
    goal = ObservationField(
        name="goal",
        topic="goal",
        message_type="std_msgs/msg/Float64MultiArray",
        extraction="data",
        size=1,
        unit="1",
        max_age=None,
    )
    fields = (*manifest_of().observation, goal)
    path = write(
        as_received("/goal", Float64MultiArray(data=[3.0]), 1),
        as_received("/joint_states", joint_message(100, 0.1, 0.2), 10),
        as_received("/joint_states", joint_message(90, 0.5, 0.6), 30),
        as_received("/goal", Float64MultiArray(data=[4.0]), 50),
        as_received("/joint_states", joint_message(100, 0.7, 0.8), 60),
    )
    old, new = observation_sources(Recording.open(path), fields, 0.05, "latest", [Restart(15, 20, 40)])
    assert np.allclose(old.observe(100, 15).vector, [0.1, 0.2, 3.0])
    assert np.allclose(new.observe(95, 40).vector, [0.5, 0.6, 3.0])
    assert np.allclose(new.observe(100, 70).vector, [0.7, 0.8, 4.0])


def test_recorded_joints_in_several_messages_are_merged_as_the_node_merged_them(
    write: Make, as_received: Make, joint_message: Make, manifest_of: Make
) -> None:
    def part(stamp: int, which: int, value: float) -> Any:
        message = joint_message(stamp, 0.0, 0.0)
        message.name, message.position = [message.name[which]], [value]
        return as_received("/joint_states", message, stamp)

    path = write(part(10, 0, 0.1), part(12, 1, 0.2), part(20, 0, 0.3), part(22, 1, 0.4))
    (source,) = observation_sources(Recording.open(path), manifest_of().observation, 0.05)
    assert np.allclose(source.observe(12, 13).vector, [0.1, 0.2])
    assert np.allclose(source.observe(20, 21).vector, [0.3, 0.2])
    assert np.allclose(source.observe(22, 23).vector, [0.3, 0.4])


@pytest.mark.parametrize(
    "said",
    ["", "0.5", "null", "[1.0]", "[1.0, 2.0, 3.0]", "[[1.0, 2.0]]", '{"a": 1.0, "b": 2.0}', '["x", "y"]', "[1.0"],
)
def test_telemetry_that_does_not_say_what_was_commanded_is_one_sentence(said: str) -> None:
    figures = {"command": said, "motion": "1"}
    recorded = Recorded("/telemetry", TELEMETRY, 1, 1, diagnostic_array(1, "tick", "fake", 0, "", figures), True)
    with pytest.raises(
        RecordingError, match=r"/telemetry does not say what was commanded, expected 2 values as command"
    ):
        commanded(2, recorded)
