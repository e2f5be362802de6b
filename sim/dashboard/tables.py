"""The texts of the page as HTML. Whatever came over the network is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from qgf_sim.dashboard.camera_watch import CameraLook
from qgf_sim.dashboard.state import EpisodeRow, StatusLine, SuccessAtWeight, View

#: Finished episodes that the table lists.
LISTED = 8
#: Of guidance weights, in the order of their first use; the first again after the last.
WEIGHT_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_COLOURS = ("#2b8a3e", "#e67700", "#c92a2a")  # of the levels 0, 1 and 2


def link_table(view: View) -> str:
    """Return the state of the connections."""
    rows = ((f"<b>{html.escape(name)}</b>", _coloured(link)) for name, link in view.links.items())
    return _table((), rows)


def notice_line(notice: StatusLine) -> str:
    """Return what came of the last request."""
    return f'<div style="padding: 0.3em 0.8em; min-height: 2.4em; font-size: 0.85em">{_coloured(notice)}</div>'


def episode_table(successes: Sequence[SuccessAtWeight], episodes: Sequence[EpisodeRow]) -> str:
    """Return the success so far by guidance weight, and the last episodes."""
    if not episodes:
        return '<div style="padding: 0.3em 0.8em; font-size: 0.85em">no episode has finished yet</div>'
    by_weight = _table(
        ("weight", "success", "", "95 % Wilson"),
        (
            (
                _dot(WEIGHT_COLOURS[i % len(WEIGHT_COLOURS)]) + _weight(s.guidance_weight),
                f"{s.successes} of {s.episodes}",
                _percent(s.successes / s.episodes),
                f"[{100 * s.interval[0]:.0f}, {100 * s.interval[1]:.0f}]",
            )
            for i, s in enumerate(successes)
        ),
    )
    last = _table(
        ("task", "seed", "weight", "steps", ""),
        (
            (str(row.task), str(row.seed), _weight(row.guidance_weight), str(row.length), _verdict(row.success))
            for row in episodes[:LISTED]
        ),
    )
    return by_weight + last


def camera_pictures(looks: Mapping[str, CameraLook]) -> str:
    """Return what the policy sees, a picture for each camera, two in a row; the browser enlarges it, its pixels stay squares."""
    parts = "".join(f"<div>{_camera_picture(html.escape(name), look)}</div>" for name, look in looks.items())
    grid = f"display: grid; grid-template-columns: repeat({min(len(looks), 2)}, minmax(0, 1fr)); gap: 0.5em"
    style = "padding: 0.3em 0.8em; font-size: 0.85em"
    return f'<div style="{style}"><b>what the policy sees</b><div style="{grid}">{parts}</div></div>'


def _camera_picture(name: str, look: CameraLook) -> str:
    said = f"{name} {_coloured(StatusLine(1, look.complaint))}" if look.complaint else name
    if not look.source:
        return said
    # Of its size before it is decoded, and decoded before it is painted: a new picture is a new element.
    style = "display: block; width: 100%; aspect-ratio: {1} / {0}; image-rendering: pixelated".format(*look.size)
    return f'{said}<img style="{style}" decoding="sync" src="{look.source}" alt="{name}">'


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML already."""
    cell = '<{0} style="text-align: left; padding: 0.1em 0.7em 0.1em 0; vertical-align: top">{1}</{0}>'
    head = "".join(cell.format("th", text) for text in header)
    body = "".join("<tr>" + "".join(cell.format("td", text) for text in row) + "</tr>" for row in rows)
    style = "margin: 0.3em 0.8em; font-size: 0.85em; border-collapse: collapse"
    return f'<table style="{style}"><tr>{head}</tr>{body}</table>'


def _coloured(link: StatusLine) -> str:
    colour = _COLOURS[min(max(link.level, 0), len(_COLOURS) - 1)]
    return f'<span style="color: {colour}">{html.escape(link.text)}</span>'


def _dot(colour: str) -> str:
    """Return a dot that says which line of the plot is meant."""
    return f'<span style="color: {colour}">&#9679;</span> '


def _weight(weight: float) -> str:
    return f"{weight:g}" if math.isfinite(weight) else "several"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _verdict(success: bool | None) -> str:
    if success is None:
        return "replayed"
    return _coloured(StatusLine(0, "solved")) if success else _coloured(StatusLine(2, "not solved"))
