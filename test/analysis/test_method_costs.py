"""What an action costs with each method of a comparison: counted as in `qgf analyze compute`, timed if somebody asks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="operations are counted from the graphs")

from qgf_ros.analysis.compute import Case, measure_compute
from qgf_ros.analysis.inputs import load_primitives
from qgf_ros.analysis.method_costs import method_costs

METHODS = {"bc": Case("bc", 1), "bfn4": Case("bc", 4), "qgf": Case("qgf", 1), "grad_step": Case("grad_step", 1)}


def test_operations_are_those_of_the_analysis_of_compute(tiny_bundle: Path) -> None:
    costs = {cost["method"]: cost for cost in method_costs(tiny_bundle, METHODS, rounds=0)}
    cases = measure_compute(tiny_bundle, load_primitives(tiny_bundle), candidates=(1, 4), rounds=1, warm_up=0)["cases"]
    for name, case in METHODS.items():
        (found,) = [one for one in cases if (one["method"], one["candidates"]) == (case.method, case.candidates)]
        assert costs[name] == {"method": name, "gflops": found["algorithm"]["gflops"], "time_ms": None}
    assert costs["bc"]["gflops"] < costs["qgf"]["gflops"]


def test_times_say_how_they_were_measured(tiny_bundle: Path) -> None:
    for cost in method_costs(tiny_bundle, {"bc": METHODS["bc"], "qgf": METHODS["qgf"]}, rounds=3):
        times = cost["time_ms"]
        assert 0.0 < times["p50"] <= times["p99"]
        assert times["rounds"] == 3
        assert {"other_cores", "processor"} <= times.keys()
