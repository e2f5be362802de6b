"""How growth is told in numbers, and that a controller does not gain memory tick by tick."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="random bundles need the train extra")
pytest.importorskip("onnxruntime", reason="running a bundle needs ONNX Runtime")

from qgf_ros.benchmark.growth import READINGS, GrowthPlan, controller_of, growth, measure, resident_bytes, watch_memory
from qgf_ros.benchmark.latency import Schedule
from qgf_ros.benchmark.random_bundle import NetworkShape, write_random_bundle
from qgf_ros.benchmark.tick_plan import Subject, TickPlan
from qgf_ros.errors import GuidanceError
from qgf_ros.runtime.policy import Policy

TINY = NetworkShape(layers=1, width=16, observation=3, action=2, horizon=1, steps=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random") / "tiny"
    write_random_bundle(folder, TINY)
    return folder


def test_a_straight_line_is_found_and_how_far_the_latencies_are_from_it() -> None:
    line = growth((1, 2, 5, 10), [3.0, 4.0, 7.0, 12.0])
    assert (line["fixed_ms"], line["each_ms"]) == (pytest.approx(2.0), pytest.approx(1.0))
    assert line["deviation"] == pytest.approx(0.0, abs=1e-9)
    assert line["share"] == pytest.approx(0.4)  # (12 / 10) / 3
    quadratic = growth((1, 10, 20), [1.0, 100.0, 400.0])
    assert quadratic["deviation"] > 0.3
    assert quadratic["share"] == pytest.approx(20.0)


def test_two_sizes_are_on_a_line_whatever_they_are() -> None:
    assert math.isnan(growth((1, 2), [3.0, 40.0])["deviation"])


def test_every_size_is_measured_and_the_memory_read_evenly(bundle: Path) -> None:
    notes: list[str] = []
    plan = GrowthPlan((1, 2, 4), (1, 3), ticks=250, threads=1, schedule=Schedule(rounds=2, ticks=1))
    (result,) = measure({"tiny": bundle}, plan, notes.append)["results"]
    assert (result["steps"]["sizes"], result["candidates"]["sizes"]) == ([1, 2, 4], [1, 3])
    assert result["steps"]["p50_ms"][1] == result["candidates"]["p50_ms"][0]  # T = 2, N = 1 is one contender
    assert len(result["memory"]["resident_mb"]) == READINGS
    assert notes == ["tiny: timing"] * 2 + ["tiny: ticking"] * READINGS


def test_every_tick_of_the_controller_is_an_inference(bundle: Path) -> None:
    policy = Policy.load(bundle)
    stamps: list[int] = []
    controller = controller_of(policy, Subject.load("tiny", bundle, TickPlan()))
    tick = controller.tick

    def noted(observation: Any) -> Any:
        command = tick(observation)
        assert command.inferred
        stamps.append(observation.stamp)
        return command

    controller.tick = noted  # type: ignore[method-assign]
    watch_memory(controller, 130, Schedule())
    assert np.diff(stamps).tolist() == [50_000_000] * 129


def test_fewer_ticks_than_readings_are_refused() -> None:
    with pytest.raises(GuidanceError, match="growth_ticks 99 was given; it must be at least 100"):
        GrowthPlan(ticks=99)


@pytest.mark.slow
@pytest.mark.skipif(math.isnan(resident_bytes()), reason="the memory of a process is read from /proc")
def test_memory_does_not_grow_over_many_ticks(bundle: Path) -> None:
    """What is left behind at every tick, be it 100 bytes, would show."""
    controller = controller_of(Policy.load(bundle), Subject.load("tiny", bundle, TickPlan()))
    memory = watch_memory(controller, 20_000, Schedule())
    assert memory["growth_mb"] < 1.0
    assert memory["objects"][-1] - memory["objects"][0] < 200
