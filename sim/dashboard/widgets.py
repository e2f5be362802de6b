"""The moving parts of the page: a control that follows a parameter, a plot, and the scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from viser import GuiApi, SceneApi, uplot

from qgf_ros.control.observation import Reading
from qgf_ros.nodes.declarations import declarations
from qgf_sim.dashboard.controls import Control, Slider

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
        self._handle.on_update(self._on_update)

    def show(self, value: Any, now: float) -> None:
        """Show the value in force, None while it is unknown, unless a person is at it just now [s]."""
        if value is None or now - self._touched < HANDS_OFF:
            return
        handle = self._handle
        handle.disabled = False
        if isinstance(self._control, Slider):
            value = type(self._control.lower)(value)
            handle.max = max(handle.max, value)
        elif value not in handle.options:
            handle.options = (*handle.options, value)
        if handle.value != value:
            handle.value = value

    def _on_update(self, event: Any) -> None:
        if event.client is not None:  # else it was `show`
            self._touched = time.monotonic()
            self._ask(self._control.name, event.target.value)


class Plot:
    """A plot of one curve.

    Args:
        gui: Where it is added.
        title: Above the curve.
        colour: Of the curve, as in CSS.
        range: Of y; by default that of the data.
    """

    def __init__(self, gui: GuiApi, title: str, colour: str, range: tuple[float, float] | None = None) -> None:
        self._handle = gui.add_uplot(
            _EMPTY,
            (uplot.Series(label="x"), uplot.Series(label=title, stroke=colour, width=1.5)),
            title=title,
            scales={"x": uplot.Scale(time=False), "y": uplot.Scale(range=range) if range else uplot.Scale()},
            axes=(uplot.Axis(size=26), uplot.Axis(size=50)),
            legend=uplot.Legend(show=False),
            height=112,
            padding=(8, 16, 0, 0),
        )

    def show(self, curve: NDArray[np.float64]) -> None:
        """Show x and y, float64 [2, K]."""
        self._handle.data = (curve[0], curve[1]) if len(np.unique(curve[0])) > 1 else _EMPTY


class SceneView:
    """The scene of an environment in the browser.

    Args:
        scene: Where it is added.
        environment: Its name.
        task: Single-task number of the episode.

    Raises:
        SimulationError: There is no such environment or task.
        ModuleNotFoundError: MuJoCo or OGBench is missing.
    """

    def __init__(self, scene: SceneApi, environment: str, task: int) -> None:
        from qgf_sim.dashboard.scene import Scene  # here, because it needs MuJoCo, which a robot has not

        self.environment = environment
        self._scene = Scene(environment, task)
        self._episode: Mapping[str, Any] = {}
        self._readings: dict[str, Reading] = {}
        self._frames = {
            body: scene.add_frame(f"/bodies/{body}", show_axes=False)
            for body in sorted({shape.body for shape in self._scene.shapes})
        }
        self._scene.poses()
        self._colours = self._scene.colours()
        self._meshes = [
            scene.add_mesh_simple(
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
            for shape, colour in zip(self._scene.shapes, self._colours)
        ]

    def draw(self, episode: Mapping[str, Any], readings: Mapping[str, Reading]) -> None:
        """Show the newest readings, by topic, of the episode of a task and a seed."""
        moved = [topic for topic, reading in readings.items() if reading is not self._readings.get(topic)]
        if episode != self._episode:
            self._episode = dict(episode)
            self._scene.begin(episode["task"], episode["seed"])
            moved = list(readings)
        elif not moved:
            return
        self._readings = dict(readings)
        for topic in moved:
            self._scene.observe(topic, readings[topic])
        positions, orientations = self._scene.poses()
        for body, frame in self._frames.items():
            frame.position, frame.wxyz = positions[body], orientations[body]
        colours = self._scene.colours()
        for i in np.flatnonzero((colours != self._colours).any(axis=1)):
            self._meshes[i].color = _bytes(colours[i])
        self._colours = colours

    def close(self) -> None:
        """Free the environment and take everything off the page."""
        self._scene.close()
        for frame in self._frames.values():
            frame.remove()


def _bytes(colour: Any) -> tuple[int, int, int]:
    red, green, blue = (round(255 * float(value)) for value in colour[:3])
    return red, green, blue
