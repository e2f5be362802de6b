"""One look for every figure: colours that colour-blind readers tell apart, labels beside the lines, PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qgf_ros.files.destination import replacing


class Look(NamedTuple):
    """How a method is drawn; the marker tells it apart without colour."""

    label: str
    colour: str
    marker: str


#: Colours of Okabe and Ito (2008).
LOOKS = {
    "bc": Look("BC", "#666666", "o"),
    "qgf": Look("QGF", "#0072B2", "o"),
    "qgf_jacobian": Look("QGF-Jacobian", "#56B4E9", "s"),
    "qgf_chain": Look("QGF-chain", "#009E73", "^"),
    "noisy": Look("noisy (QFQL)", "#D55E00", "X"),
    "bptt": Look("BPTT", "#E69F00", "D"),
    "grad_step": Look("gradient steps", "#CC79A7", "v"),
    "bfn": Look("best of N", "#000000", "P"),
}
#: Labels of methods with best of N, in the closed-loop comparison.
_COMPARED = {
    **{f"bfn{count}": f"best of {count}" for count in (4, 16, 32)},
    **{f"qgf_bfn{count}": f"QGF, best of {count}" for count in (4, 16)},
}

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.facecolor": "white",
    "svg.hashsalt": "qgf_ros",  # the same numbers give the same file
}


def method_label(name: str) -> str:
    """Return what a method is called in figures and tables; one that is not among them by its own name."""
    look = LOOKS.get(name)
    return _COMPARED.get(name) or (name if look is None else look.label)


def method_look(name: str) -> Look:
    """Return how a method of the closed-loop comparison is drawn; with best of N as without."""
    return LOOKS.get(name) or LOOKS["qgf" if name.startswith("qgf") else "bfn" if name in _COMPARED else "bc"]


def style() -> AbstractContextManager[None]:
    """Return the context in which every figure is made and written."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure [in] whose parts find their own places; needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def write_figure(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write a figure as OUT/NAME.png and OUT/NAME.svg.

    Raises:
        OutputError: A file cannot be written.
    """
    paths = [out / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        with style(), replacing(path) as temporary:
            # Without a date, the same numbers give the same file.
            figure.savefig(temporary, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def label_ends(axes: Axes, ends: Iterable[tuple[float, float, str, str]], spacing: float = 0.062) -> None:
    """Write labels right of the ends of lines, moved apart where they would overlap.

    Args:
        axes: Axes whose limits and scales are final.
        ends: x, y, text and colour of each.
        spacing: Smallest distance between two labels, as a share of the height of the axes.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted(
        ((float(to_axes.transform((x, y))[1]), text, colour) for x, y, text, colour in ends if np.isfinite(y)),
        key=lambda item: item[0],
    )
    heights = spread([height for height, _, _ in placed], spacing)
    for height, (_, text, colour) in zip(heights, placed):
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )


def spread(heights: Sequence[float], spacing: float) -> list[float]:
    """Return ascending heights moved as little as it takes to lie `spacing` apart, groups keeping their centre."""
    groups: list[list[float]] = []  # each the wanted heights of neighbours that touch
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _start(groups[-1], spacing) < _start(groups[-2], spacing) + spacing * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [_start(group, spacing) + spacing * i for group in groups for i in range(len(group))]


def _start(group: Sequence[float], spacing: float) -> float:
    return sum(group) / len(group) - spacing * (len(group) - 1) / 2
