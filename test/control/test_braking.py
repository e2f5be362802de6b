"""Braking: from any command to rest, inside every limit, in bounded time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qgf_ros.bundle.fields import ActionField, Measurement
from qgf_ros.control.safety import LONGEST_STOP, SafetyEnvelope
from qgf_ros.errors import SafetyError

PERIOD = 0.05
Array = np.ndarray[Any, np.dtype[np.float64]]


def random_fields(random: np.random.Generator, size: int) -> list[ActionField]:
    """Return components with random limits, of which half are absolute and a third lacks a limit of a kind."""
    kinds = ("max_rate", "max_acceleration", "max_jerk")

    def limits() -> dict[str, float]:
        values = 10.0 ** random.uniform([-1.0, 0.0, 0.7], [0.5, 1.5, 2.5])
        return {kind: value for kind, value in zip(kinds, values) if random.random() > 0.33}

    return [
        ActionField(
            name=f"x{i}",
            unit="m",
            scale=1.0,
            lower=-1.0,
            upper=1.0,
            hold=None if random.random() < 0.5 else 0.0,
            **limits(),
        )
        for i in range(size)
    ]


def brake_to_rest(envelope: SafetyEnvelope) -> Array:
    """Return the commands on the way to rest, and the hold [K + 1, A]."""
    commands = []
    while (command := envelope.brake()) is not None:
        commands.append(command)
        assert len(commands) <= 10 * LONGEST_STOP
    hold = envelope.hold()
    assert hold is not None
    return np.array([*commands, hold])


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.sampled_from([0.0, 0.3, 1.0]))
def test_braking_keeps_every_limit_and_ends_at_rest(seed: int, ticks: int, roughness: float) -> None:
    random = np.random.default_rng(seed)
    fields = random_fields(random, 6)
    try:
        envelope = SafetyEnvelope(fields, PERIOD)
    except SafetyError:  # such limits take too long to stop, and are refused
        return
    walk = np.cumsum(random.normal(0.0, 0.1 + roughness, (ticks, len(fields))), axis=0)
    sent = [envelope.command(np.clip(row, -1.0, 1.0).astype(np.float32)) for row in walk]
    stop = brake_to_rest(envelope)
    still = np.array([np.nan if field.hold is None else field.hold for field in fields])
    np.testing.assert_array_equal(stop[-1], np.where(np.isnan(still), stop[max(len(stop) - 2, 0)], still))
    rest = np.repeat(stop[-1:], 3, axis=0)  # nor does standing still afterwards leave a limit
    first = np.where(np.isnan(still), sent[0], 0.0)  # absolute ones begin where the first command was
    signal = np.concatenate([np.repeat(first[None], 3, axis=0), sent, stop, rest])
    bound = np.array(
        [[getattr(f, kind) or np.inf for f in fields] for kind in ("max_rate", "max_acceleration", "max_jerk")]
    )
    for order in (1, 2, 3):
        changes = np.abs(np.diff(signal, n=order, axis=0))
        assert (changes <= bound[order - 1] * PERIOD**order * (1.0 + 1e-6) + 1e-12).all(), order
    assert (np.abs(stop) <= 1.0).all()


def test_without_limits_of_motion_there_is_nothing_to_brake_but_the_hold() -> None:
    fields = [ActionField(name="x", unit="m", scale=1.0, lower=-1.0, upper=1.0, hold=None)]
    envelope = SafetyEnvelope(fields, PERIOD)
    envelope.command(np.array([0.5], dtype=np.float32))
    assert brake_to_rest(envelope).tolist() == [[0.5]]


def test_before_the_first_command_there_is_nothing_to_brake() -> None:
    field = ActionField(name="x", unit="m", scale=1.0, lower=-1.0, upper=1.0, max_acceleration=1.0, hold=None)
    assert SafetyEnvelope([field], PERIOD).brake() is None


def test_a_displacement_fades_at_its_rate_and_keeps_the_workspace() -> None:
    field = ActionField(
        name="x",
        unit="m",
        scale=1.0,
        lower=-0.1,
        upper=0.1,
        max_rate=0.4,
        workspace=(0.0, 1.0),
        measured=Measurement(field="place"),
    )
    free = SafetyEnvelope([field], PERIOD)
    for place in (0.1, 0.12, 0.16):
        free.command(np.array([0.06], dtype=np.float32), np.array([place]))
    np.testing.assert_allclose(brake_to_rest(free)[:, 0], [0.04, 0.02, 0.0, 0.0], atol=1e-7)
    near = SafetyEnvelope([field], PERIOD)
    for place in (0.9, 0.92, 0.93):
        near.command(np.array([0.05], dtype=np.float32), np.array([place]))
    way = 0.93 + 0.05 + np.cumsum(brake_to_rest(near)[:, 0])
    assert way.max() <= 1.0 + 1e-12


def test_after_braking_an_absolute_action_begins_where_it_came_to_rest() -> None:
    field = ActionField(
        name="x", unit="rad", scale=1.0, lower=-1.0, upper=1.0, max_rate=1.0, max_acceleration=4.0, hold=None
    )
    envelope = SafetyEnvelope([field], PERIOD)
    last = [envelope.command(np.array([0.05 * k], dtype=np.float32))[0] for k in range(6)][-1]
    rest = brake_to_rest(envelope)[-1, 0]
    assert rest > last
    assert envelope.command(np.array([1.0], dtype=np.float32))[0] == pytest.approx(rest + 4.0 * PERIOD**2)
