"""A chunk belongs to a goal: when the goal changes, the chunk goes."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, ObservationField, goal_field
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.extraction import VectorReading
from qgf_ros.control.inference import Chunk
from qgf_ros.control.observation import Observation, ObservationAssembler
from qgf_ros.control.run_options import SEAMS, RunOptions
from qgf_ros.errors import NotReadyError, ObservationError
from qgf_ros.guidance.shaping import QGF

STEP = 50_000_000
FIELD = ObservationField(
    name="x", topic="x", message_type="std_msgs/msg/Float64MultiArray", extraction="data", size=2, unit="1"
)


class GoalPolicy:
    """Every action of a chunk is the goal it was inferred for."""

    def __init__(self) -> None:
        self.manifest = Manifest(
            name="goals",
            observation=(FIELD, goal_field(2)),
            goal="goal",
            action=tuple(ActionField(name=n, unit="m", scale=1.0, lower=-1.0, upper=1.0) for n in ("dx", "dy")),
            horizon=4,
            execution_horizon=4,
            control_rate=20.0,
            critics={"goal": CriticCard(task="any goal", discount=0.99, ensemble_size=2)},
        )

    def act(
        self,
        observations: Any,
        noise: Any,
        critic: str,
        guidance_weight: float,
        guidance: Any = QGF,
        prefix: Any = None,
    ) -> list[Chunk]:
        actions = np.tile(observations[0, 2:], (4, 1))
        return [Chunk(actions, actions, {})]


def observe(step: int, goal: float, place: float = 0.0) -> Observation:
    return Observation(np.array([place, place, goal, goal], np.float32), step * STEP)


@pytest.fixture
def controller() -> Controller:
    return Controller(GoalPolicy(), RunOptions(0.0, "goal", execution_horizon=4))


def test_a_new_goal_drops_the_chunk_under_way(controller: Controller) -> None:
    goals = [0.1, 0.1, 0.3, 0.3, 0.1]
    commands = [controller.tick(observe(step, goal, place=step)) for step, goal in enumerate(goals)]
    assert [command.inferred for command in commands] == [True, False, True, False, True]
    np.testing.assert_allclose([command.values for command in commands], np.transpose([goals, goals]), rtol=1e-6)


def test_a_goal_that_is_published_again_changes_nothing(controller: Controller) -> None:
    assembler = ObservationAssembler(controller.policy.manifest.observation, 0.05)
    inferred = []
    for step in range(4):
        assembler.update("x", step * STEP, VectorReading(np.zeros(2)))
        assembler.update("goal", step * STEP, VectorReading(np.full(2, 0.2)))
        inferred.append(controller.tick(assembler.assemble(step * STEP)).inferred)
    assert inferred == [True, False, False, False]


class Slow:
    """Delivers some ticks after it was asked."""

    busy_for = 0.0

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self.request: Any = None
        self.asked: list[Any] = []

    @property
    def busy(self) -> bool:
        return self.request is not None

    def submit(self, request: Any) -> None:
        self.request = request
        self.asked.append(request)

    def take(self, stamp: int) -> Any:
        if self.request is None or stamp < self.request.stamp + self.delay * STEP:
            return None
        request, self.request = self.request, None
        actions = np.tile(request.observation[2:], (4, 1))
        return request, Chunk(actions, actions, {})

    def abandon(self) -> None:
        self.request = None

    def close(self) -> None: ...


def asynchronous(delay: int, execution_horizon: int, seam: str = "switch") -> tuple[Controller, Slow]:
    slow = Slow(delay)
    settings = RunOptions(0.0, "goal", execution_horizon=execution_horizon, execution="asynchronous", seam=seam)
    return Controller(GoalPolicy(), settings, worker=slow), slow


@pytest.mark.parametrize("seam", SEAMS)
def test_nothing_that_was_inferred_for_another_goal_begins_or_gets_into_the_chunk_for_the_new_one(seam: str) -> None:
    controller, slow = asynchronous(1, 1, seam)
    for step in range(5):
        with contextlib.suppress(NotReadyError):
            controller.tick(observe(step, 0.1))
    assert slow.busy, "a chunk for the old goal is being inferred"
    commands = [controller.tick(observe(step, 0.3)) for step in (5, 6, 7)]
    np.testing.assert_allclose([command.values[0] for command in commands], [0.1, 0.3, 0.3], rtol=1e-6)
    assert [command.inferred for command in commands] == [False, True, True]
    assert [request.prefix is None for request in slow.asked if request.stamp == 5 * STEP] == [True]


def test_in_asynchronous_execution_the_old_chunk_goes_on_until_the_next_is_there() -> None:
    controller, _ = asynchronous(2, 3)
    controller.begin(0, Chunk(np.full((4, 2), 0.1, np.float32), np.full((4, 2), 0.1, np.float32), {}))
    values = [controller.tick(observe(step, 0.3)).values[0] for step in range(4)]
    np.testing.assert_allclose(values, [0.1, 0.1, 0.3, 0.3], rtol=1e-6)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (np.zeros(3), r"field goal: topic goal gave shape \(3,\), expected \(2,\)"),
        (np.array([0.0, np.nan]), "field goal: topic goal holds a value that is not finite"),
    ],
)
def test_a_goal_that_is_none_is_named(goal: np.ndarray, message: str) -> None:
    assembler = ObservationAssembler((FIELD, goal_field(2)), 0.05)
    assembler.update("x", 0, VectorReading(np.zeros(2)))
    assembler.update("goal", 0, VectorReading(goal))
    with pytest.raises(ObservationError, match=message):
        assembler.assemble(0)


@pytest.mark.parametrize("name", ["x", "nothing"])
def test_a_manifest_whose_goal_does_not_hold_is_refused(name: str) -> None:
    values = GoalPolicy().manifest.model_dump()
    with pytest.raises(ValueError, match=f"goal {name} is not an observation field that holds until it is replaced"):
        Manifest.model_validate({**values, "goal": name})
