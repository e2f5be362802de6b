"""The moving parts of the page: a control that follows a parameter, a plot, and the scene."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from viser import GuiApi, SceneApi, uplot

from qgf_ros.control.extraction import Reading
from qgf_ros.nodes.declarations import declarations
from qgf_sim.dashboard.controls import Control, Slider

if TYPE_CHECKING:
    from qgf_sim.dashboard.scene import Scene

#: A control that a person has moved is left to them for this long [s].
HANDS_OFF = 0.5

# What a plot shows before there are two points: viser keeps the zoom in parts of the data's span, which must not be 0.
_EMPTY = (np.array([0.0, 1.0]), np.full(2, np.nan))


class Input:
    """A control of one parameter. What a person does to it is asked for; what is in force comes back through `show`.

    Args:
        gui: Where it is added.
        control: What it sets.
        ask: Called with name and value, in a thread of the web server.
    """

    def __init__(self, gui: GuiApi, control: Control, ask: Callable[[str, Any], None]) -> None:
        self._control, self._ask = control, ask
        self._touched = 0.0
        hint = declarations()[control.name][1].description
        if isinstance(control, Slider):
            span = (control.lower, control.upper, control.step, control.lower)
            self._handle: Any = gui.add_slider(control.name, *span, hint=hint, disabled=True)
        else:
            self._handle = gui.add_dropdown(control.name, control.words, hint=hint, disabled=True)
        self._known = self._handle.value
        self._handle.on_update(self._on_update)

    def show(self, value: Any, now: float) -> None:
        """Show the value in force, None while it is unknown, unless a person is at it just now [s].

        What the control cannot show, such as a word on a slider, is passed over.
        """
        if value is None or now - self._touched < HANDS_OFF:
            return
        handle = self._handle
        if isinstance(self._control, Slider):
            try:
                value = type(self._control.lower)(value)
            except (OverflowError, TypeError, ValueError):
                return
            if not math.isfinite(value):
                return
            handle.max = max(handle.max, value)
        elif (value := str(value)) not in handle.options:
            handle.options = (*handle.options, value)
        handle.disabled = False
        if handle.value != self._known:  # a person has moved it, of which `_on_update` is yet to hear
            self._known, self._touched = handle.value, now
        elif handle.value != value:
            self._known = handle.value = value

    async def _on_update(self, event: Any) -> None:
        if event.client is not None:  # else it was `show`
            self._known, self._touched = event.target.value, time.monotonic()
            self._ask(self._control.name, event.target.value)


class Plot:
    """A plot of what was measured at every tick: a dot each, since a line would cross what was not measured.

    Args:
        gui: Where it is added.
        title: Above the dots.
        colour: Of the dots, as in CSS.
    """

    def __init__(self, gui: GuiApi, title: str, colour: str) -> None:
        dots = uplot.Series_Points(show=True, size=2.5, width=0, fill=colour)
        series = uplot.Series(label=title, stroke=colour, width=0, points=dots)
        self._handle = _add_plot(gui, title, uplot.Scale(), [series])

    def show(self, curve: NDArray[np.float64]) -> None:
        """Show x and y, float64 [2, K], nan where there is none."""
        self._handle.data = (curve[0], curve[1]) if _has_span(curve) else _EMPTY


class RatePlot:
    """A plot of shares, between 0 and 1, each a line of its own.

    Args:
        gui: Where it is added.
        title: Above the lines.
        colours: Of the lines, as in CSS; used again where they run out.
    """

    def __init__(self, gui: GuiApi, title: str, colours: Sequence[str]) -> None:
        self._title, self._colours = title, colours
        self._handle = _add_plot(gui, title, uplot.Scale(range=(0.0, 1.0)), [self._line(0)])

    def show(self, curves: NDArray[np.float64]) -> None:
        """Show x and S lines, float64 [1 + S, K], nan before a line begins."""
        if not _has_span(curves):
            return
        if len(self._handle.data) != len(curves):
            self._handle.series = (uplot.Series(label="x"), *(self._line(i) for i in range(len(curves) - 1)))
        self._handle.data = tuple(curves)

    def _line(self, number: int) -> uplot.Series:
        return uplot.Series(label=self._title, stroke=self._colours[number % len(self._colours)], width=1.5)


def _add_plot(gui: GuiApi, title: str, y: uplot.Scale, series: Sequence[uplot.Series]) -> Any:
    return gui.add_uplot(
        _EMPTY,
        (uplot.Series(label="x"), *series),
        title=title,
        scales={"x": uplot.Scale(time=False), "y": y},
        axes=(uplot.Axis(size=26), uplot.Axis(size=50)),
        legend=uplot.Legend(show=False),
        height=112,
        padding=(8, 16, 0, 0),
    )


def _has_span(curves: NDArray[np.float64]) -> bool:
    return len(np.unique(curves[0])) > 1


class SceneView:
    """The scene of the episode under way in the browser.

    To begin an episode may take seconds, where an environment is built for it. A thread of its own does it, and what
    was drawn last stands meanwhile.

    Args:
        scene: Where it is added.
    """

    def __init__(self, scene: SceneApi) -> None:
        self._api = scene
        self._thread = ThreadPoolExecutor(1, "scene")
        self._beginning: Future[None] | None = None
        self._episode: Mapping[str, Any] = {}
        self._readings: Mapping[str, Reading] = {}
        self._environment = ""
        self._scene: Scene | None = None
        self._frames: dict[int, Any] = {}
        self._meshes: list[Any] = []
        self._colours = np.empty((0, 4), dtype=np.float32)

    def draw(self, episode: Mapping[str, Any], readings: Mapping[str, Reading]) -> None:
        """Show the newest readings, by topic, of an episode; waits for nothing.

        Args:
            episode: Its environment, task and seed; nothing is drawn while one of them is missing.
            readings: By topic.

        Raises:
            SimulationError: There is no such environment or task; said once, by a later call.
            ModuleNotFoundError: MuJoCo or OGBench is missing; likewise.
        """
        if self._beginning is not None:
            if not self._beginning.done():
                return
            begun, self._beginning = self._beginning, None
            begun.result()
        if not {"environment", "task", "seed"} <= episode.keys():
            return
        if episode != self._episode:
            self._episode, self._readings = dict(episode), {}
            self._beginning = self._thread.submit(self._begin, **self._episode)
            return
        moved = [topic for topic, reading in readings.items() if reading is not self._readings.get(topic)]
        if self._scene is None or not moved:
            return
        self._readings = dict(readings)
        for topic in moved:
            self._scene.observe(topic, readings[topic])
        self._show(self._scene)

    def close(self) -> None:
        """Free the environment and take everything off the page."""
        self._thread.shutdown()
        self._clear()

    def _begin(self, environment: str, task: int, seed: int) -> None:
        from qgf_sim.dashboard.scene import Scene  # here, because it needs MuJoCo, which a robot has not

        if self._scene is None or environment != self._environment:
            self._clear()
            self._environment, self._scene = environment, Scene(environment, task)
            self._add(self._scene)
        self._scene.begin(task, seed)
        self._show(self._scene)

    def _add(self, scene: Scene) -> None:
        self._frames = {
            body: self._api.add_frame(f"/bodies/{body}", show_axes=False)
            for body in sorted({shape.body for shape in scene.shapes})
        }
        scene.poses()
        self._colours = scene.colours()
        self._meshes = [
            self._api.add_mesh_simple(
                f"/bodies/{shape.body}/{shape.geom}",
                shape.vertices,
                shape.faces,
                color=_bytes(colour),
                opacity=float(colour[3]) if colour[3] < 1.0 else None,
                flat_shading=True,
                side="double",
                cast_shadow=False,
                receive_shadow=False,
            )
            for shape, colour in zip(scene.shapes, self._colours)
        ]

    def _show(self, scene: Scene) -> None:
        positions, orientations = scene.poses()
        for body, frame in self._frames.items():
            frame.position, frame.wxyz = positions[body], orientations[body]
        colours = scene.colours()
        for i in np.flatnonzero((colours != self._colours).any(axis=1)):
            self._meshes[i].color = _bytes(colours[i])
        self._colours = colours

    def _clear(self) -> None:
        if self._scene is not None:
            self._scene.close()
            self._scene = None
        for frame in self._frames.values():
            frame.remove()
        self._frames = {}


def _bytes(colour: Any) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(value)) for value in colour[:3])
    return red, green, blue
