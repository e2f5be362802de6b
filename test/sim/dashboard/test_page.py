"""The page without a browser: what it draws must not keep it from what a person asks for."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="needs the sim extra")
pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("viser", reason="needs the dashboard extra")

from viser._messages import GuiUpdateMessage

from qgf_sim.dashboard import scene
from qgf_sim.dashboard.camera_watch import CameraLook
from qgf_sim.dashboard.controls import Choice, Slider
from qgf_sim.dashboard.page import Page
from qgf_sim.dashboard.server import PageServer
from qgf_sim.dashboard.state import PageState
from qgf_sim.dashboard.widgets import HANDS_OFF, Input

PATIENCE = 60.0  # [s]
EPISODE = {"environment": "cube-single", "task": 1, "seed": 0}


class StubWatch:
    """Cameras that are there once they are named."""

    def __init__(self) -> None:
        self.seen: dict[str, CameraLook] = {}
        self.looked_at = False
        self.missing: ImportError | None = None

    def look(self, looking: bool) -> None:
        self.looked_at = looking

    def looks(self) -> dict[str, CameraLook]:
        if self.missing is not None:
            raise self.missing
        return self.seen


class StubGraph:
    """What a page knows of the graph."""

    def __init__(self) -> None:
        self.manifest = None
        self.setting: frozenset[str] = frozenset()
        self.scene: dict[str, Any] = {}
        self.readings: dict[str, Any] = {}
        self.cameras = StubWatch()
        self.triggered: list[str] = []

    def trigger(self, name: str) -> None:
        self.triggered.append(name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> PageServer:
    """A server of a page that a browser seems to look at."""
    server = PageServer("127.0.0.1", 0)
    monkeypatch.setattr(server, "get_clients", lambda: {0: None})
    return server


@pytest.fixture
def graph() -> StubGraph:
    return StubGraph()


@pytest.fixture
def state() -> PageState:
    return PageState()


@pytest.fixture
def page(server: PageServer, state: PageState, graph: StubGraph) -> Iterator[Page]:
    page = Page(server, state, graph)  # type: ignore[arg-type]
    yield page
    page.close()


def until(page: Page, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        page.refresh()


def test_hold_does_not_wait_for_a_scene(page: Page, graph: StubGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    building, release, original = threading.Event(), threading.Event(), scene.TaskEnvironment

    def slow(*arguments: Any) -> Any:
        building.set()
        release.wait(PATIENCE)
        return original(*arguments)

    monkeypatch.setattr(scene, "TaskEnvironment", slow)
    graph.scene = dict(EPISODE)
    until(page, building.is_set)
    asyncio.run(page._later(lambda: graph.trigger("hold"))(None))
    until(page, lambda: graph.triggered == ["hold"])
    assert not release.is_set()
    assert page._scene._scene is None
    release.set()
    until(page, lambda: page._scene._scene)
    building.clear()
    release.clear()
    graph.scene = {**EPISODE, "environment": "cube-double"}
    until(page, building.is_set)
    asyncio.run(page._later(lambda: graph.trigger("resume"))(None))
    until(page, lambda: graph.triggered == ["hold", "resume"])
    release.set()


def test_nothing_is_drawn_before_the_whole_episode_is_known(page: Page, graph: StubGraph, state: PageState) -> None:
    for known in (1, 2):
        graph.scene = dict(list(EPISODE.items())[:known])
        page._scene_due = 0.0
        page.refresh()
    assert page._scene._beginning is None
    assert state.view().notice.text == ""


@pytest.mark.parametrize("change", [{"environment": "no-such"}, {"task": 9}, {"seed": -1}])
def test_a_scene_that_cannot_be_shown_does_not_end_the_page(
    page: Page, graph: StubGraph, state: PageState, change: dict[str, Any]
) -> None:
    graph.scene = {**EPISODE, **change}
    until(page, lambda: "the scene cannot be shown: " in state.view().notice.text)


def refreshed(page: Page) -> Any:
    page._page_due = 0.0
    page.refresh()
    return page._pictures


def test_what_the_policy_sees_is_on_the_page_while_a_browser_looks(
    page: Page, server: PageServer, graph: StubGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not refreshed(page).visible, "a bundle without cameras shows nothing of it"
    graph.cameras.seen = {
        "wrist": CameraLook("data:image/png;base64,AAAA", "", (6, 8)),
        "<front>": CameraLook("", "silent for 3 s"),
    }
    shown = refreshed(page)
    assert shown.visible
    assert "aspect-ratio: 8 / 6; image-rendering: pixelated" in shown.content
    assert 'src="data:image/png;base64,AAAA" alt="wrist"' in shown.content
    assert "silent for 3 s" in shown.content
    assert "<front>" not in shown.content
    assert graph.cameras.looked_at
    monkeypatch.setattr(server, "get_clients", dict)
    refreshed(page)
    assert not graph.cameras.looked_at


def test_without_opencv_the_page_says_so_once_and_goes_on(page: Page, graph: StubGraph, state: PageState) -> None:
    graph.cameras.missing = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    refreshed(page)
    assert "[camera]" in state.view().notice.text
    state.notice(0, "another")
    assert not refreshed(page).visible
    assert not graph.cameras.looked_at
    assert state.view().notice.text == "another"


def test_a_control_passes_over_what_it_cannot_show(server: PageServer) -> None:
    slider = Input(server.gui, Slider("guidance_weight", 0.0, 1.0, 0.1), print)
    for value in ("abc", float("nan"), [1.0]):
        slider.show(value, 1e9)
        assert slider._handle.value == 0.0
    choice = Input(server.gui, Choice("critic", ("task1",)), print)
    choice.show(7, 1e9)
    assert choice._handle.value == "7"
    server.stop()


@pytest.fixture
def browser(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], None]:
    """What arrives from a browser when a person brings a control to a value."""
    monkeypatch.setattr(server.gui, "_resolve_client", lambda number: object())
    loop = server.get_event_loop()

    def change(handle: Any, value: Any) -> None:
        message = GuiUpdateMessage(handle._impl.uuid, {"value": value})
        loop.call_soon_threadsafe(lambda: loop.create_task(server.gui._handle_gui_updates(0, message)))

    return change


def test_clicks_and_values_keep_their_order(page: Page, graph: StubGraph, browser: Callable[[Any, Any], None]) -> None:
    clicks = ["reset", "step"] * 100
    for click in clicks:
        browser(page._simulation, click.capitalize())
    until(page, lambda: len(graph.triggered) == len(clicks))
    assert graph.triggered == clicks


def test_what_a_person_has_just_moved_is_not_put_back(server: PageServer, browser: Callable[[Any, Any], None]) -> None:
    asked: queue.Queue[tuple[str, Any]] = queue.Queue()
    slider = Input(server.gui, Slider("num_samples", 1, 8, 1), lambda *asking: asked.put(asking))
    slider.show(2, 1e9)
    for value in range(3, 9):
        slider._handle._impl.value = value  # which the thread of the server sets before it says so
        slider.show(2, 1e9)
        assert slider._handle.value == value
        slider.show(2, 1e9 + HANDS_OFF)  # nothing was said: the person has gone
        assert slider._handle.value == 2
        browser(slider._handle, value)
        assert asked.get(timeout=PATIENCE) == ("num_samples", value)
        slider.show(2, time.monotonic() + HANDS_OFF)
    assert asked.empty()
    server.stop()
