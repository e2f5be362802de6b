"""What an action costs with each method of a comparison: operations, and time on a quiet machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qgf_ros.analysis.compute import Case, count_case, primitive_flops, time_cases
from qgf_ros.analysis.inputs import load_primitives
from qgf_ros.reports.machine import LoadMeter, describe_machine
from qgf_ros.reports.statistics import percentiles

#: Says in a report how the times were measured.
HOW = (
    "gflops are those of the algorithm for one inference; time_ms is one inference of Policy.act, which runs the unguided twin, "
    "too, from the primitives on one thread; measured once per method and bundle, after all episodes, methods in turn; "
    "other_cores says how many cores anything else kept busy meanwhile"
)


def method_costs(bundle: Path, methods: Mapping[str, Case], *, rounds: int) -> list[dict[str, Any]]:
    """Return what an inference costs with each method.

    Args:
        bundle: Folder of the bundle; its first critic guides.
        methods: How each of them infers, by name.
        rounds: Timed inferences of each; with 0 none is timed.

    Returns:
        Of each method ``gflops`` of the algorithm, and ``time_ms`` with p50, p99, rounds, the machine and how many of its cores
        others kept busy; None where nothing was timed.

    Raises:
        BundleError: The bundle is missing or damaged, or has an operator that is not counted.
    """
    primitives = load_primitives(bundle)
    flops = primitive_flops(bundle, next(iter(primitives.critics)))
    counted = {name: count_case(case, primitives, flops)["algorithm"]["gflops"] for name, case in methods.items()}
    if not rounds:
        return [{"method": name, "gflops": gflops, "time_ms": None} for name, gflops in counted.items()]
    meter = LoadMeter()
    latencies = time_cases(primitives, tuple(dict.fromkeys(methods.values())), rounds=rounds, warm_up=min(10, rounds))
    around = {"rounds": rounds, "other_cores": meter.cores(), "processor": describe_machine(1)["processor"]}
    costs = []
    for name, case in methods.items():
        p50, p99 = percentiles(latencies[case])
        costs.append({"method": name, "gflops": counted[name], "time_ms": {"p50": p50, "p99": p99, **around}})
    return costs
