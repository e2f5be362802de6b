"""Telemetry tells what was so when the command of its tick was sent."""

from __future__ import annotations

import binascii
import json
from typing import Any

import numpy as np
import pytest

from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.loop.telemetry import tick_figures
from qgf_ros.loop.tick_loop import Tick, TickLoop
from qgf_ros.loop.tick_statistics import TickStatistics


@pytest.mark.parametrize(("motion", "event"), [(True, "hold"), (False, "enable")])
def test_what_comes_between_a_command_and_its_telemetry_is_told_with_the_next(
    policy: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch, motion: bool, event: str
) -> None:
    """A replay takes the telemetry of a tick for what was so when its command was sent."""
    loop = TickLoop(
        Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), recorder, TickStatistics(0.05), motion=motion
    )
    answered = loop.statistics.answered

    def between(latency: float) -> None:
        monkeypatch.undo()
        loop.gate.hold("blind") if event == "hold" else loop.gate.enable(True)
        answered(latency)

    monkeypatch.setattr(loop.statistics, "answered", between)
    for step in range(2):
        loop.handle(Tick(Observation(np.zeros(6, dtype=np.float32), step)))
    first, second = recorder.telemetry
    changed = "holds" if event == "hold" else "motion"
    assert (first[changed], second[changed]) == (0, 1)


def test_the_figures_of_a_tick_are_its_own_in_their_units(policy: Any) -> None:
    controller, statistics = Controller(policy, RunOptions(0.5, "near", execution_horizon=1)), TickStatistics(0.05)
    observation = Observation(np.arange(6, dtype=np.float32), 7)
    command = controller.command(observation, controller.prepare(observation))
    statistics.answered(0.004)
    figures = tick_figures(controller, statistics, command, observation, 0.25, {"motion": 1, "holds": 5})
    assert figures["latency_ms"] == 250.0
    assert figures["inference_ms"] == 2.0, "of the policy alone"
    assert (figures["tick"], figures["inferred"], figures["critic"], figures["guidance_weight"]) == (1, 1, "near", 0.5)
    assert json.loads(str(figures["command"])) == command.values.tolist()
    assert figures["observation_crc32"] == binascii.crc32(np.arange(6, dtype="<f4").tobytes())
    assert (figures["motion"], figures["holds"]) == (1, 5), "what it is told goes before what is counted"
    assert figures["latency_max_ms"] == 4.0
