"""The tick: when it infers, with what noise, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qgf_ros.bundle.fields import ActionField, ObservationField
from qgf_ros.bundle.manifest import CriticCard, Manifest
from qgf_ros.control.controller import Controller
from qgf_ros.control.inference import Chunk
from qgf_ros.control.observation import Observation
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import GuidanceError, SafetyError
from qgf_ros.guidance.shaping import QGF

STEP = 50_000_000


def manifest() -> Manifest:
    return Manifest(
        name="fake",
        observation=(
            ObservationField(
                name="x",
                topic="x",
                message_type="std_msgs/msg/Float64MultiArray",
                extraction="data",
                size=3,
                unit="1",
            ),
        ),
        action=tuple(ActionField(name=n, unit="m", scale=0.5, lower=-0.5, upper=0.5) for n in ("dx", "dy")),
        horizon=4,
        execution_horizon=3,
        control_rate=20.0,
        critics={n: CriticCard(task=n, discount=0.99, ensemble_size=2) for n in ("near", "far")},
    )


class NoisePolicy:
    """A policy that returns its noise as the chunk."""

    def __init__(self) -> None:
        self.manifest = manifest()
        self.calls: list[tuple[Any, Any, str, float]] = []
        self.spoil = 1.0

    def act(
        self, observations: Any, noise: Any, critic: str, guidance_weight: float, guidance: Any = QGF
    ) -> list[Chunk]:
        self.calls.append((observations, noise, critic, guidance_weight))
        chunks = [np.tanh(n[0].reshape(4, 2)) * np.float32(self.spoil) for n in noise]
        return [Chunk(actions, actions, {"q": float(len(self.calls))}) for actions in chunks]


@pytest.fixture
def policy() -> NoisePolicy:
    return NoisePolicy()


def controller(policy: NoisePolicy, **changes: Any) -> Controller:
    return Controller(
        policy, RunOptions(**{"guidance_weight": 0.1, "critic": "near", "execution_horizon": 3, **changes})
    )


def at(step: int) -> Observation:
    return Observation(np.zeros(3, dtype=np.float32), step * STEP)


def test_a_chunk_is_executed_to_the_execution_horizon_and_then_replaced(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    commands = [ticker.tick(at(k)) for k in range(7)]
    assert [c.inferred for c in commands] == [True, False, False, True, False, False, True]
    assert [c.telemetry["q"] for c in commands] == [1, 1, 1, 2, 2, 2, 3]
    assert [c.stamp for c in commands] == [k * STEP for k in range(7)]
    for command in commands:
        np.testing.assert_array_equal(command.values, command.action.astype(np.float64) * 0.5)


def test_the_policy_gets_batched_observation_noise_and_settings(policy: NoisePolicy) -> None:
    controller(policy, num_samples=5, critic="far", guidance_weight=0.7).tick(at(0))
    observations, noise, critic, weight = policy.calls[0]
    assert observations.shape == (1, 3)
    assert noise.shape == (1, 5, 8)
    assert (observations.dtype, noise.dtype) == (np.float32, np.float32)
    assert (critic, weight) == ("far", 0.7)


def test_the_same_seed_gives_the_same_commands_bit_for_bit() -> None:
    runs = [
        [controller_run.tick(at(k)).values.tolist() for k in range(8)]
        for controller_run in (
            controller(NoisePolicy(), seed=3),
            controller(NoisePolicy(), seed=3),
            controller(NoisePolicy(), seed=4),
        )
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_reset_with_a_seed_restarts_noise_and_chunk(policy: NoisePolicy) -> None:
    ticker = controller(policy, seed=3)
    first = [ticker.tick(at(k)).values.tolist() for k in range(5)]
    ticker.reset(3)
    assert [ticker.tick(at(100 + k)).values.tolist() for k in range(5)] == first


def test_new_settings_drop_the_chunk_but_go_on_with_the_noise(policy: NoisePolicy) -> None:
    ticker, peer = controller(policy), controller(NoisePolicy())
    ticker.tick(at(0))
    peer.tick(at(0))
    ticker.apply(RunOptions(0.9, "far", execution_horizon=3))
    command = ticker.tick(at(1))
    assert command.inferred
    assert policy.calls[-1][2:] == ("far", 0.9)
    np.testing.assert_array_equal(command.values, peer.tick(at(3)).values)  # the second chunk of the same noise


def test_reseeding_with_the_same_seed_repeats_the_noise(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    first = ticker.tick(at(0))
    ticker.apply(ticker.settings, reseed=True)
    np.testing.assert_array_equal(ticker.tick(at(1)).values, first.values)


def test_limits_hold_across_a_new_seed_and_begin_anew_with_an_episode(policy: NoisePolicy) -> None:
    field = ActionField(name="joint", unit="rad", scale=1.0, lower=-1.0, upper=1.0, hold=None, max_rate=0.2)
    policy.manifest = policy.manifest.model_copy(update={"action": (field, field)})
    ticker = controller(policy)

    def command(step: int, value: float) -> float:
        ticker.begin(step * STEP, Chunk(np.full((4, 2), value, np.float32), np.zeros((4, 2), np.float32), {}))
        return float(ticker.tick(at(step)).values[0])

    assert command(0, -0.875) == -0.875
    ticker.apply(ticker.settings, reseed=True)
    assert command(1, 0.875) == pytest.approx(-0.865)  # 0.01 per period
    ticker.reset(0)
    assert command(2, 0.875) == 0.875


def test_refused_settings_leave_the_old_ones_and_the_chunk(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    ticker.tick(at(0))
    with pytest.raises(GuidanceError):
        ticker.apply(RunOptions(-1.0, "near", execution_horizon=1))
    assert ticker.settings.guidance_weight == 0.1
    assert not ticker.tick(at(1)).inferred


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance_weight": -1.0}, r"guidance_weight -1\.0 was given; it must be at least 0"),
        ({"guidance_weight": float("inf")}, "guidance_weight inf was given; it must be finite and at most 1000"),
        ({"critic": "middle"}, "critic 'middle' was given; bundle fake has near, far"),
        ({"num_samples": 0}, "num_samples 0 was given; it must be at least 1"),
        ({"execution_horizon": -1}, "execution_horizon -1 was given; it must be at least 0"),
        ({"execution_horizon": 5}, "must be 1 to 4"),
        ({"seed": -1}, "seed -1 was given"),
    ],
)
def test_settings_out_of_range_are_refused_with_what_is_allowed(
    policy: NoisePolicy, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GuidanceError, match=message):
        controller(policy, **changes)


def test_an_unsafe_action_raises_and_the_next_tick_infers_again(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    policy.spoil = float("nan")
    with pytest.raises(SafetyError, match="dx, dy is not finite"):
        ticker.tick(at(0))
    policy.spoil = 1.0
    assert ticker.tick(at(1)).inferred


def test_hold_drops_the_chunk_and_stops_relative_motion(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    ticker.tick(at(0))
    held = ticker.hold()
    assert held is not None
    assert held.tolist() == [0.0, 0.0]
    assert ticker.tick(at(1)).inferred


def test_no_command_without_a_chunk(policy: NoisePolicy) -> None:
    with pytest.raises(GuidanceError, match="no action chunk covers stamp 0"):
        controller(policy).command(at(0), inferred=False)


def test_a_change_of_the_weight_is_slewed_tick_by_tick(policy: NoisePolicy) -> None:
    ticker = controller(policy, execution_horizon=1, guidance_weight_slew=4.0)  # 0.2 per tick
    ticker.tick(at(0))
    for weight in (0.6, 0.0):
        ticker.apply(RunOptions(weight, "near", execution_horizon=1, guidance_weight_slew=4.0))
        for k in range(4):
            ticker.tick(at(10 + k))
    np.testing.assert_allclose(
        [call[3] for call in policy.calls], [0.1, 0.3, 0.5, 0.6, 0.6, 0.4, 0.2, 0.0, 0.0], atol=1e-12
    )
    assert policy.calls[4][3] == 0.6
    assert policy.calls[-1][3] == ticker.guidance_weight == 0.0


def test_without_a_slew_limit_the_weight_is_the_one_set(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    ticker.apply(RunOptions(0.7, "near", execution_horizon=1))
    ticker.tick(at(0))
    assert policy.calls[0][3] == ticker.guidance_weight == 0.7


@pytest.mark.parametrize("name", ["max_guidance_deviation", "guidance_weight_slew"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_guard_of_guidance_must_be_above_zero(policy: NoisePolicy, name: str, value: float) -> None:
    with pytest.raises(GuidanceError, match=f"{name} {value} was given; it must be above 0"):
        controller(policy, **{name: value})


def test_guidance_is_kept_near_the_unguided_chunk(policy: NoisePolicy) -> None:
    ticker = controller(policy, max_guidance_deviation=0.25)
    chunk = Chunk(np.full((4, 2), 0.5, np.float32), np.zeros((4, 2), np.float32), {})
    ticker.begin(0, chunk)
    np.testing.assert_array_equal(ticker.command(at(0), inferred=True).action, [0.25, 0.25])
    assert ticker.safety.counts["guidance"] == 1


def test_a_command_tells_what_follows_it_to_the_end_of_the_chunk(policy: NoisePolicy) -> None:
    ticker = Controller(policy, RunOptions(0.1, "near", execution_horizon=4), previews=True)
    commands = [ticker.tick(at(k)) for k in range(4)]
    for k, command in enumerate(commands):
        np.testing.assert_array_equal(
            command.upcoming, np.array([later.values for later in commands[k + 1 :]]).reshape(-1, 2)
        )
    assert len(controller(policy).tick(at(0)).upcoming) == 0


def test_a_command_says_whether_it_begins_anew(policy: NoisePolicy) -> None:
    ticker = controller(policy)
    begins = [ticker.tick(at(k)).begins for k in range(2)]
    ticker.hold()
    begins += [ticker.tick(at(k)).begins for k in (2, 3)]
    assert begins == [True, False, True, False]


def test_a_chunk_that_cannot_be_foretold_is_not_begun(policy: NoisePolicy) -> None:
    ticker = Controller(policy, RunOptions(0.1, "near", execution_horizon=4), previews=True)
    actions = np.zeros((4, 2), np.float32)
    actions[3] = np.nan
    with pytest.raises(SafetyError, match="action dx, dy is not finite"):
        ticker.begin(0, Chunk(actions, actions, {}))
    assert ticker.safety.counts["not_finite"] == 1
    assert ticker.needs_chunk(0)
    assert ticker.tick(at(1)).begins


def test_limits_hold_from_one_command_to_the_next_however_many_ticks_are_skipped(policy: NoisePolicy) -> None:
    """Within a chunk and beyond its end: what was skipped is not made up for by a larger step."""
    rate, acceleration = 0.4, 2.0
    limits = {"max_rate": rate, "max_acceleration": acceleration}
    policy.manifest = manifest().model_copy(
        update={"action": tuple(field.model_copy(update=limits) for field in manifest().action)}
    )
    ticker = controller(policy)
    step, sent = 0, [np.zeros(2)]
    for skipped in [0, 0, 1, 0, 2, 3, 1, 0, 0, 5, 40, 0, 2, 0, 1] * 4:
        step += 1 + skipped
        sent.append(ticker.tick(at(step)).values)
    steps = np.diff(sent, axis=0)
    assert np.abs(steps).max() == pytest.approx(rate * 0.05)
    assert np.abs(np.diff(steps, axis=0)).max() <= acceleration * 0.05**2 * (1.0 + 1e-6)


@pytest.mark.parametrize("previews", [False, True])
@pytest.mark.parametrize("max_rate", [None, 1.0])
def test_a_position_that_was_refused_is_neither_held_nor_braked_from(
    policy: NoisePolicy, previews: bool, max_rate: float | None
) -> None:
    place = ActionField(name="dx", unit="m", scale=1.0, lower=-1.0, upper=1.0, hold=None, max_rate=max_rate)
    policy.manifest = manifest().model_copy(update={"action": (place, place.model_copy(update={"name": "dy"}))})
    ticker = Controller(policy, RunOptions(0.1, "near", execution_horizon=1), previews=previews)
    sent = ticker.tick(at(0)).values
    actions = np.full((4, 2), 0.9, np.float32)
    actions[2] = np.nan
    with pytest.raises(SafetyError, match="not finite"):
        ticker.begin(STEP, Chunk(actions, actions, {}))
    np.testing.assert_array_equal(ticker.hold(), sent)
    rest = ticker.safety.brake()
    assert rest is None or np.abs(rest - sent).max() <= 0.05  # one period at the rate
    np.testing.assert_array_equal(ticker.safety.hold(), sent if rest is None else rest)
