"""The page itself, drawn with viser: what `PageState` says, the scene, and controls whose use is asked of `RosSide`."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any

import viser

from qgf_ros.control.run_options import USE_RECOMMENDED
from qgf_ros.launching.extras import missing
from qgf_sim.dashboard.controls import Control, controls_for
from qgf_sim.dashboard.ros_side import RosSide
from qgf_sim.dashboard.state import CURVES, WARN, PageState, View
from qgf_sim.dashboard.tables import WEIGHT_COLOURS, camera_pictures, episode_table, link_table, notice_line
from qgf_sim.dashboard.widgets import Input, Plot, RatePlot, SceneView

#: How often the scene is drawn anew, and everything else [s].
SCENE_PERIOD, PAGE_PERIOD = 0.05, 0.2
#: Width of the panels [pixels].
WIDTH = 350

_COLOURS = {"q": "#1f77b4", "gradient_norm": "#d62728", "guidance_distance": "#9467bd", "latency_ms": "#2ca02c"}


class Page:
    """One page, the same in all browsers that look at it.

    What a person does arrives in the thread of the web server and is put off to the next `refresh`, so that everything
    else happens in the caller's thread. Who is told of it there is a coroutine: viser calls functions in a pool of threads,
    where a Hold could be overtaken by the Resume before it, or a value by the next one.

    Args:
        server: Serves it; fresh.
        state: What it shows.
        graph: Asked for what its controls ask for.
    """

    def __init__(self, server: viser.ViserServer, state: PageState, graph: RosSide) -> None:
        self._server, self._state, self._graph = server, state, graph
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._scene = SceneView(server.scene)
        self._without_scene = ""  # environment that cannot be shown
        self._without_pictures = False
        self._scene_due = self._page_due = 0.0
        self._drawn = -1
        self._controls: tuple[Control, ...] = ()
        self._folder: Any = None
        self._inputs: dict[str, Input] = {}
        server.scene.add_grid("/floor", width=2.0, height=2.0, cell_size=0.1, section_size=0.5)
        server.initial_camera.position = (1.15, -0.75, 0.75)
        server.initial_camera.look_at = (0.35, 0.0, 0.15)
        self._add_steering()
        self._add_plots()

    def refresh(self) -> None:
        """Carry out what was asked for, and draw what is due; the scene, while a browser looks at it."""
        while not self._requests.empty():
            self._requests.get()()
        now = time.monotonic()
        if now >= self._scene_due and self._server.get_clients():
            self._scene_due = now + SCENE_PERIOD
            self._draw_scene()
        if now >= self._page_due:
            self._page_due = now + PAGE_PERIOD
            self._draw(self._state.view(), now)
            self._draw_pictures(looking=bool(self._server.get_clients()))

    def close(self) -> None:
        """End the server and free the scene."""
        self._scene.close()
        self._server.stop()

    def _later(self, action: Callable[[], None]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def put_off(event: Any) -> None:
            self._requests.put(action)

        return put_off

    def _ask(self, name: str, value: Any) -> None:
        self._requests.put(lambda: self._graph.set(name, value))

    def _add_steering(self) -> None:
        """Add what is right of the scene: connections, buttons, and room for the controls."""
        gui, graph = self._server.gui, self._graph
        gui.main_panel.dock_right()
        gui.main_panel.set_width(WIDTH)
        self._links = gui.add_html("")
        gui.add_button("Hold", color="red", icon=viser.Icon.HAND_STOP).on_click(
            self._later(lambda: graph.trigger("hold"))
        )
        gui.add_button("Resume", icon=viser.Icon.PLAYER_PLAY).on_click(self._later(lambda: graph.trigger("resume")))
        actions = {
            "Reset": lambda: graph.trigger("reset"),
            "Pause": lambda: graph.pause(True),
            "Step": lambda: graph.trigger("step"),
            "Run": lambda: graph.pause(False),
        }
        self._simulation = gui.add_button_group("simulation", tuple(actions), visible=False)

        async def steer(event: Any) -> None:
            self._requests.put(actions[event.target.value])

        self._simulation.on_click(steer)
        self._notice = gui.add_html("")
        self._pictures = gui.add_html("", visible=False, order=1e9)  # below the controls, which come later

    def _add_plots(self) -> None:
        """Add what is left of the scene."""
        gui = self._server.gui
        panel = gui.add_panel()
        with panel.add_tab("Live"):
            self._plots = {name: Plot(gui, title, _COLOURS[name]) for name, title in CURVES.items()}
        with panel.add_tab("Episodes"):
            self._rate = RatePlot(gui, "success so far at each weight, by episode", WEIGHT_COLOURS)
            self._episodes = gui.add_html("")
        panel.dock_left()
        panel.set_width(WIDTH)

    def _draw(self, view: View, now: float) -> None:
        self._links.content = link_table(view)
        self._notice.content = notice_line(view.notice)
        self._simulation.visible = view.simulated
        self._draw_controls(view, now)
        if self._state.version == self._drawn:
            return
        self._drawn = self._state.version
        for name, plot in self._plots.items():
            plot.show(view.curves[name])
        self._rate.show(view.success_rate)
        self._episodes.content = episode_table(view.successes, view.episodes)

    def _draw_controls(self, view: View, now: float) -> None:
        controls = controls_for(self._graph.manifest) if view.parameters else ()
        if controls != self._controls:
            self._controls = controls
            if self._folder is not None:
                self._folder.remove()
            self._folder = self._server.gui.add_folder("guidance")
            with self._folder:
                self._inputs = {control.name: Input(self._server.gui, control, self._ask) for control in controls}
                self._server.gui.add_button("Recommended weight").on_click(
                    self._later(lambda: self._graph.set(USE_RECOMMENDED, True))
                )
        for name, control in self._inputs.items():
            if name not in self._graph.setting:
                control.show(self._state.value(name), now)

    def _draw_pictures(self, *, looking: bool) -> None:
        """Show what the policy sees, while a browser looks; without cameras there is nothing of it on the page."""
        cameras = self._graph.cameras
        cameras.look(looking and not self._without_pictures)
        if not looking or self._without_pictures:
            return
        try:
            looks = cameras.looks()
        except ImportError as error:
            self._without_pictures = True
            self._state.notice(WARN, f"what the policy sees cannot be shown: {missing(error) or error}")
            return
        self._pictures.visible = bool(looks)
        if looks and (content := camera_pictures(looks)) != self._pictures.content:
            self._pictures.content = content

    def _draw_scene(self) -> None:
        environment = self._graph.scene.get("environment", "")
        if environment in ("", self._without_scene):
            return
        try:
            self._scene.draw(self._graph.scene, self._graph.readings)
        except Exception as error:  # whatever it is, Hold and Resume must go on
            self._without_scene = environment
            reason = (isinstance(error, ImportError) and missing(error)) or error
            self._state.notice(WARN, f"the scene cannot be shown: {reason}")
