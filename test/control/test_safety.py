"""The safety envelope: no command leaves its limits, and a hold stops the robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from qgf_ros.bundle.manifest import ActionField
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.errors import SafetyError


def action(name: str = "x", **changes: Any) -> ActionField:
    return ActionField(**{"name": name, "unit": "m", "scale": 2.0, "lower": -1.0, "upper": 1.5, **changes})


def act(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def test_an_action_is_scaled_in_double_precision() -> None:
    envelope = SafetyEnvelope([action(scale=0.05), action("y", scale=0.3)], 0.05)
    expected = act(0.1, -0.7).astype(np.float64) * [0.05, 0.3]
    command = envelope.command(act(0.1, -0.7))
    assert command.dtype == np.float64
    np.testing.assert_array_equal(command, expected)
    assert envelope.interventions == 0


def test_limits_clip_and_are_counted() -> None:
    envelope = SafetyEnvelope([action()], 0.05)
    assert [envelope.command(act(v))[0] for v in (1.0, -1.0, 0.5)] == [1.5, -1.0, 1.0]
    assert envelope.interventions == 2


def test_the_rate_limit_counts_from_the_previous_command_and_not_before_the_first() -> None:
    envelope = SafetyEnvelope([action(max_rate=4.0)], 0.05)  # 0.2 per period
    assert envelope.command(act(-0.5))[0] == -1.0
    np.testing.assert_allclose([envelope.command(act(0.5))[0] for _ in range(3)], [-0.8, -0.6, -0.4])
    envelope.clear()
    assert envelope.command(act(0.5))[0] == 1.0


def test_the_caller_cannot_change_what_the_rate_limit_remembers() -> None:
    envelope = SafetyEnvelope([action(max_rate=4.0)], 0.05)
    envelope.command(act(0.0))[0] = 1.0
    assert envelope.command(act(0.5))[0] == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    envelope = SafetyEnvelope([action(), action("y")], 0.05)
    with pytest.raises(SafetyError, match=r"action y is not finite"):
        envelope.command(act(0.0, bad))


def test_an_action_of_another_length_is_refused() -> None:
    with pytest.raises(SafetyError, match=r"shape \(3,\) was given, expected \(1,\)"):
        SafetyEnvelope([action()], 0.05).command(act(0.0, 0.0, 0.0))


def test_a_hold_zeroes_relative_actions_at_once_and_repeats_absolute_ones() -> None:
    envelope = SafetyEnvelope([action("relative", max_rate=0.1), action("absolute", hold=None)], 0.05)
    assert envelope.hold() is None
    envelope.command(act(0.5, 0.25))
    held = envelope.hold()
    assert held is not None
    assert held.tolist() == [0.0, 0.5]


def test_after_a_hold_the_rate_limit_counts_from_the_hold() -> None:
    envelope = SafetyEnvelope([action(max_rate=4.0)], 0.05)
    envelope.command(act(0.5))
    envelope.hold()
    assert envelope.command(act(0.5))[0] == pytest.approx(0.2)


def test_a_hold_outside_the_limits_is_refused_with_the_contract() -> None:
    with pytest.raises(ValidationError, match=r"hold 0\.0 is outside 0\.5 to 1\.5; .* null to repeat"):
        action(lower=0.5)
