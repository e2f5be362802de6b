"""`qgf analyze`: the paper's analyses, each a figure and its numbers."""

from __future__ import annotations

from typing import Annotated, Union

import tyro

from qgf_ros.commands.analyses.asynchronous import Asynchronous
from qgf_ros.commands.analyses.compute import Compute
from qgf_ros.commands.analyses.q_optimization import QOptimization
from qgf_ros.commands.analyses.sensitivity import Sensitivity
from qgf_ros.commands.analyses.size import Size
from qgf_ros.commands.analyses.success import Success
from qgf_ros.commands.analyses.toy1d import Toy1d
from qgf_ros.commands.analyses.uncertainty import Uncertainty

Analysis = Union[  # noqa: UP007  (tyro reads the names off the parts)
    Annotated[Toy1d, tyro.conf.subcommand("toy1d", prefix_name=False)],
    Annotated[Sensitivity, tyro.conf.subcommand("sensitivity", prefix_name=False)],
    Annotated[QOptimization, tyro.conf.subcommand("q-optimization", prefix_name=False)],
    Annotated[Compute, tyro.conf.subcommand("compute", prefix_name=False)],
    Annotated[Success, tyro.conf.subcommand("success", prefix_name=False)],
    Annotated[Size, tyro.conf.subcommand("size", prefix_name=False)],
    Annotated[Uncertainty, tyro.conf.subcommand("uncertainty", prefix_name=False)],
    Annotated[Asynchronous, tyro.conf.subcommand("asynchronous", prefix_name=False)],
]


def analyze(analysis: Annotated[Analysis, tyro.conf.arg(name="")]) -> None:
    """Run one of the analyses; each writes a figure (PNG and SVG) and its numbers (JSON).

    Args:
        analysis: Which one.
    """
    from rich.console import Console

    from qgf_ros.files.destination import check_folder

    check_folder(analysis.out)
    analysis.run(Console())
