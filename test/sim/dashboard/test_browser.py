"""The page in a real browser, headless: what a person does there reaches the robot, and what it does reaches the page."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench", reason="the bridge needs the sim extra")
pytest.importorskip("rclpy", reason="nodes need the ros extra or a ROS 2 installation")
pytest.importorskip("viser", reason="the page needs the dashboard extra")
pytest.importorskip("playwright", reason="a browser is driven with playwright, of the dev extra")

import numpy as np
import rclpy
from PIL import Image
from playwright import sync_api as playwright
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from qgf_sim.dashboard.state import CURVES
from qgf_sim.live.demo import BRIDGE, MODULES, NODE
from qgf_sim.processes import Child, environment, private_graph, stop_all

pytestmark = pytest.mark.slow

PATIENCE = 120.0  # [s], for a machine that is busy and draws in software
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU

# The newest x of every plot by its title, from viser's own hook for tests.
NEWEST = """() => Object.fromEntries(Object.values(window.__viserTestpoints.uplots).map(
    plot => [plot.chart.series[1].label, plot.chart.data[0].at(-1)]))"""


def browser_path() -> str:
    """Return the executable of a Chromium."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    with playwright.sync_playwright() as driver:
        own = driver.chromium.executable_path
    if os.path.exists(own):
        found.append(own)
    if not found:
        pytest.skip(
            "no Chromium was found; 'apt install chromium-headless-shell' or 'playwright install chromium' brings one"
        )
    return found[0]


class Cell:
    """A bridge, a policy node and a dashboard as processes, and a node of the test's own."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._children: list[Child] = []
        self._context = Context()
        variables = private_graph(folder)
        parameters = {
            BRIDGE: ["task:=2", "autostart:=false"],  # until the page's Reset, nothing moves
            NODE: [
                *(f"bundle:={bundle}", "trigger:=observation", "observation_reliability:=reliable"),
                *("use_sim_time:=true", "enable_motion:=true", "autostart:=true"),
            ],
        }
        with environment(variables):
            for name, values in parameters.items():
                words = itertools.chain.from_iterable(("-p", value) for value in values)
                self._children.append(Child(name, MODULES[name], ["--ros-args", *words], folder))
            self.dashboard = Child("dashboard", "qgf_sim.dashboard.process", ["--port", "0"], folder)
            self._children.append(self.dashboard)
            rclpy.init(context=self._context, domain_id=int(variables["ROS_DOMAIN_ID"]))
            self._node = Node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._client = self._node.create_client(GetParameters, f"{NODE}/get_parameters")
        self._setter = self._node.create_client(SetParameters, f"{NODE}/set_parameters")

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert time.monotonic() < deadline, [child.last_words() for child in self._children]
            assert all(child.exit_code is None for child in self._children), "a process ended"
            self._executor.spin_once(timeout_sec=0.1)
        return value

    def url(self) -> str:
        """Return the address of the page once it is served."""
        found = self.until(lambda: re.search(r"dashboard is at (http\S+)", self.dashboard.log.read_text()))
        return str(found[1])

    def parameter(self, name: str) -> Any:
        """Return a parameter of the policy node, asked of the node itself."""
        self.until(self._client.service_is_ready)
        future = self._client.call_async(GetParameters.Request(names=[name]))
        self.until(future.done)
        return parameter_value_to_python(future.result().values[0])

    def set(self, name: str, value: Any) -> None:
        """Set a parameter of the policy node, past the page."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        self.until(self._setter.service_is_ready)
        future = self._setter.call_async(request)
        self.until(future.done)
        assert future.result().results[0].successful, future.result().results[0].reason

    def close(self) -> None:
        stop_all(self._children)
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture(scope="module")
def cell(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    browser_path()  # skips before anything is started
    cell = Cell(tiny_bundle, tmp_path_factory.mktemp("cell"))
    yield cell
    cell.close()


@pytest.fixture(scope="module")
def page(cell: Cell) -> Iterator[Any]:
    path, url = browser_path(), cell.url()
    with playwright.sync_playwright() as driver:
        switches = [*SWITCHES, "--no-sandbox"] if os.geteuid() == 0 else SWITCHES
        browser = driver.chromium.launch(executable_path=path, args=switches, timeout=PATIENCE * 1e3)
        page = browser.new_page(viewport={"width": 900, "height": 600}, device_scale_factor=0.5)
        page.set_default_timeout(PATIENCE * 1e3)
        page.goto(url)
        cell.until(lambda: darkness(page) > 0.01)  # the arm: an empty floor is lighter
        yield page
        browser.close()


def darkness(page: Any) -> float:
    """Return how much of the scene is nearly black, as parts of the arm are and an empty floor is not."""
    picture = Image.open(io.BytesIO(page.locator("canvas[data-engine]").screenshot())).convert("L")
    return float((np.asarray(picture) < 70).mean())


def thumb(page: Any, name: str) -> Any:
    """Return what a person drags to set a parameter."""
    identifier = page.locator("label", has_text=name).get_attribute("for")
    return page.locator(f'[id="{identifier}"] [role=slider]')


def shown(page: Any, name: str) -> float:
    return float(thumb(page, name).get_attribute("aria-valuenow"))


def test_the_slider_moves_the_ros_parameter(page: Any, cell: Cell) -> None:
    cell.until(lambda: shown(page, "guidance_weight") == 0.1)  # the tiny bundle's recommendation
    assert cell.parameter("use_recommended_weight") is True
    thumb(page, "guidance_weight").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    cell.until(lambda: cell.parameter("guidance_weight") == pytest.approx(0.105))
    page.get_by_text("guidance_weight is 0.105").wait_for()
    cell.until(lambda: cell.parameter("use_recommended_weight") is False)


def test_a_refused_value_goes_back_and_says_why(page: Any, cell: Cell) -> None:
    cell.until(lambda: shown(page, "execution_horizon") == 2)
    cell.set("execution", "asynchronous")  # which needs a horizon below the bundle's 5
    thumb(page, "execution_horizon").focus()
    page.keyboard.press("End")
    page.get_by_text(re.compile("execution_horizon 5 was refused: .* must be below 5")).wait_for()
    cell.until(lambda: shown(page, "execution_horizon") == 2)
    assert cell.parameter("execution_horizon") == 0
    cell.set("execution", "synchronous")


def test_reset_resets(page: Any, cell: Cell) -> None:
    page.get_by_role("button", name="Reset").click()
    page.get_by_text(re.compile(r"reset: episode \d+: task 2, seed \d+")).wait_for()


def test_the_plots_advance(page: Any, cell: Cell) -> None:
    titles = set(CURVES.values())
    before = cell.until(lambda: (found := page.evaluate(NEWEST)).keys() >= titles and found)
    cell.until(lambda: all(page.evaluate(NEWEST)[title] > before[title] for title in titles))


def test_hold_stops_the_robot_and_resume_lets_it_go_on(page: Any, cell: Cell) -> None:
    page.get_by_role("button", name="Hold").click()
    page.get_by_text("stopped: by ~/hold").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("resume: observations are answered again").wait_for()
    page.get_by_text("commanding").wait_for()


def test_the_simulation_is_paused_stepped_and_run(page: Any, cell: Cell) -> None:
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("pause: paused").wait_for()
    page.get_by_role("button", name="Step").click()
    page.get_by_text(re.compile("step: ")).wait_for()
    page.get_by_role("button", name="Run").click()
    page.get_by_text("run: running").wait_for()
