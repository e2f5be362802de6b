"""What a bundle sees: its cameras, and the way of images and state to velocity field and critics."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qgf_ros.bundle.cameras import STATE, CameraField
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import encoder_file
from qgf_ros.commands.show.display import number


def cameras_table(manifest: Manifest) -> Table:
    """Return each camera: what its pictures must be, and what is seen of them."""
    table = Table(title="cameras", title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("name", "topic", "picture", "part", "seen", "max age", "watched for"):
        table.add_column(heading, overflow="fold")
    for name, camera in manifest.cameras.items():
        kind = camera.type.rpartition("/")[2]
        table.add_row(
            *(name, camera.topic, f"{kind}, {camera.encoding}, {camera.width} x {camera.height}"),
            "all" if camera.crop is None else "{2} x {3} at {0}, {1}".format(*camera.crop),
            f"{camera.size[1]} x {camera.size[0]}, {camera.interpolation}",
            f"{camera.max_age:g} s",
            watched_for(camera),
        )
    return table


def watched_for(camera: CameraField) -> str:
    """Return what the contract lets a node notice by content."""
    frozen = [] if camera.frozen_after is None else [f"frozen for {camera.frozen_after:g} s"]
    dark = [] if camera.brightness is None else ["brightness {:g} .. {:g}".format(*camera.brightness)]
    return ", ".join([*frozen, *dark]) or "-"


def flow_of_data(manifest: Manifest) -> RenderableType:
    """Return a drawing of the way from images and state to actions and values.

    Args:
        manifest: Of a bundle with cameras.
    """
    assert manifest.encoding is not None
    taken = {name: f"uint8 [{camera.size[0]}, {camera.size[1]}, 3]" for name, camera in manifest.cameras.items()}
    if manifest.observation_size:
        taken[STATE] = f"float32 [{manifest.observation_size}]"
    own = manifest.encoding.critics
    ways = [(encoder_file(), manifest.feature_size, [n for n in manifest.critics if n not in own], True)]
    ways += [(encoder_file(name), size, [name], False) for name, size in own.items()]
    names, shapes = (max(map(len, words)) for words in (taken, taken.values()))
    left = [f"  {name:<{names}}  {shape:<{shapes}} ──" for name, shape in taken.items()]
    right = [line for way in ways for line in _way(manifest, *way)]
    left += [" " * len(left[0])] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    drawn = (f"{begin}{'┼' if begin.strip() else '│'}{end}" for begin, end in zip(left, right))
    return Group(
        Text("flow of data", style="bold"), *(Text(line, no_wrap=True, overflow="ignore") for line in drawn), ""
    )


def _way(manifest: Manifest, encoder: str, size: int, critics: list[str], policy: bool) -> list[str]:
    """Return the lines from an encoder to those that are given its features."""
    ends = [f"velocity.onnx, {manifest.denoising_steps} times ──> {manifest.horizon} actions"] if policy else []
    ends += [f"q_grad.onnx of critic {name}" for name in critics]
    first = f"─> {encoder}, once ──> z [{size}] ──"
    forks = ["┬" if len(ends) > 1 else "─", *"├" * (len(ends) - 2), "└"]
    begins = [first] + [" " * len(first)] * (len(ends) - 1)
    return [f"{begin}{fork}─> {end}" for begin, fork, end in zip(begins, forks, ends)]


def camera_verdicts(
    rows: Sequence[tuple[str, str, str, str, float | None, float | None, str | None]],
) -> Table:
    """Return whether each camera is served.

    Args:
        rows: Name, topic, what it gives, its frame, rate [Hz], largest age on arrival [ms], and what is wrong with it.
    """
    table = Table(title="cameras", title_justify="left")
    for heading in ("camera", "topic", "gives", "frame", "rate", "oldest", "verdict"):
        table.add_column(heading, justify="right" if heading in ("rate", "oldest") else "left", overflow="fold")
    for name, topic, gives, frame, rate, oldest, complaint in rows:
        verdict = Text("ok", "green") if complaint is None else Text(complaint, "red")
        table.add_row(
            name, topic, Text(gives), Text(frame), f"{number(rate, 1)} Hz", f"{number(oldest, 1)} ms", verdict
        )
    return table
