"""`qgf benchmark`: what a tick, the node, an evaluation and a training update take on this machine."""

from __future__ import annotations

from typing import Annotated, Union

import tyro

from qgf_ros.commands.benchmarks.cameras import CamerasBenchmark
from qgf_ros.commands.benchmarks.evaluation import EvaluationBenchmark
from qgf_ros.commands.benchmarks.growth import GrowthBenchmark
from qgf_ros.commands.benchmarks.ros import RosBenchmark
from qgf_ros.commands.benchmarks.targets import TargetsTable
from qgf_ros.commands.benchmarks.tick import TickBenchmark
from qgf_ros.commands.benchmarks.training import TrainingBenchmark

Measurement = Union[  # noqa: UP007  (tyro reads the names off the parts)
    Annotated[TickBenchmark, tyro.conf.subcommand("tick", prefix_name=False)],
    Annotated[RosBenchmark, tyro.conf.subcommand("ros", prefix_name=False)],
    Annotated[EvaluationBenchmark, tyro.conf.subcommand("evaluation", prefix_name=False)],
    Annotated[TrainingBenchmark, tyro.conf.subcommand("training", prefix_name=False)],
    Annotated[GrowthBenchmark, tyro.conf.subcommand("growth", prefix_name=False)],
    Annotated[CamerasBenchmark, tyro.conf.subcommand("cameras", prefix_name=False)],
    Annotated[TargetsTable, tyro.conf.subcommand("targets", prefix_name=False)],
]


def benchmark(measurement: Annotated[Measurement, tyro.conf.arg(name="")]) -> None:
    """Run one of the benchmarks, each of which prints a table and writes its numbers (JSON), or print their targets.

    Args:
        measurement: Which one.
    """
    measurement.run()
