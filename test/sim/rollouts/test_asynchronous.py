"""The study of asynchronous execution: what is run, and that it is the same seeds for all."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")

from qgf_ros.control.run_options import OWN_HORIZON
from qgf_ros.errors import GuidanceError, SimulationError
from qgf_ros.evaluation.results import Episode
from qgf_sim.rollouts import asynchronous
from qgf_sim.rollouts.asynchronous import MODES, Study, compare


def test_every_mode_is_run_at_every_delay_beside_an_undelayed_reference(tiny_bundle):
    study = Study(tiny_bundle, 2, (1, 2), (0.0, 0.1), episodes=3)
    assert study.runs() == [("synchronous", 0), *((mode, delay) for delay in (1, 2) for mode in MODES)]
    assert study.total == 11 * 2 * 3
    for mode, delay in study.runs():
        plan = study.plan(mode, delay)
        assert (plan.options.execution, plan.options.seam, plan.delay) == (*MODES[mode], delay)
        assert (plan.guidance_weights, plan.episodes, plan.options.seed) == ((0.0, 0.1), 3, 20_000)
        assert plan.options.execution_horizon == (OWN_HORIZON if mode == "synchronous" else 1)


@pytest.mark.parametrize("delays", [(), (0,), (5,), (1, 7)])
def test_a_delay_that_leaves_nothing_of_a_chunk_is_refused(tiny_bundle, delays):
    with pytest.raises(SimulationError, match="each must be 1 to 4, below the bundle's horizon"):
        Study(tiny_bundle, 2, delays, (0.0,)).check()


def test_an_execution_horizon_that_leaves_no_action_is_refused(tiny_bundle):
    with pytest.raises(GuidanceError, match="must be below 5"):
        Study(tiny_bundle, 2, (1,), (0.0,), execution_horizon=5).check()


def test_the_record_compares_modes_seed_by_seed(tiny_bundle, tmp_path, monkeypatch):
    def evaluate(plan, progress):
        episodes = [
            Episode(0.1, seed, plan.options.seam != "rtc" or seed > 0, 10, jerk=float(seed), waited=5)
            for seed in (0, 1)
        ]
        for episode in episodes:
            progress(episode)
        return {0.1: episodes}

    monkeypatch.setattr(asynchronous, "evaluate", evaluate)
    told = []
    report = compare(
        Study(tiny_bundle, 2, (3,), (0.1,)), tmp_path / "a.json", lambda mode, delay: told.append((mode, delay))
    )
    assert json.loads((tmp_path / "a.json").read_text()) == report
    assert told[::2] == [("synchronous", 0), *((mode, 3) for mode in MODES)]
    by_mode = {run["mode"]: run for run in report["runs"] if run["delay"] == 3}
    assert by_mode["synchronous"]["versus"] is None
    assert by_mode["switch"]["versus"]["difference"] == 0.0
    assert by_mode["rtc"]["versus"]["difference"] == -0.5
    assert by_mode["rtc"]["jerk"]["mean"] == 0.5
    assert by_mode["rtc"]["waited"] == 0.5
