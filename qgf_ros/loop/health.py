"""How a policy node goes, in one sentence for people; docs/diagnostics.md has them all. No ROS in here."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from qgf_ros.loop.command_stream import StreamState
from qgf_ros.loop.gate import CommandGate
from qgf_ros.loop.tick_loop import TickLoop
from qgf_ros.loop.watchdog import STUCK_AFTER

#: Without a complete observation for this long [s] it is said what is missing.
QUIET_AFTER = 1.0
#: Shares of observations that are not answered within a period which are worth a look, and which are a fault.
SOME_MISSED, MANY_MISSED = 0.05, 0.2


class Level(IntEnum):
    """Severity, numbered as in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


def inactive(gate: CommandGate) -> tuple[Level, str]:
    """Return how it goes while no observation is taken in."""
    return Level.OK, "inactive, holding" if gate.stopped is None else f"inactive; {gate.stopped}"


def active(
    loop: TickLoop, *, waiting: bool, busy: float, quiet: float, gap: Callable[[], str], missed: float = 0.0
) -> tuple[Level, str]:
    """Return how it goes while observations are taken in.

    Args:
        loop: Answers them.
        waiting: Whether none was answered yet.
        busy: How long an inference has been under way [s].
        quiet: How long ago the last complete observation came [s].
        gap: Says what is missing for the next.
        missed: Share of the last observations that were not answered within a period.
    """
    gate = loop.gate
    if busy > STUCK_AFTER:
        return Level.ERROR, f"inference has been running for {busy:.1f} s"
    if gate.stopped is not None:
        return Level.WARN, f"stopped: {gate.stopped}"
    if gate.barred is not None:
        return Level.ERROR, f"holding: {gate.barred}"
    fault = gate.fault
    if fault is not None:
        return (Level.WARN if waiting else Level.ERROR), f"holding: {fault}"
    if quiet > QUIET_AFTER:
        return Level.WARN, f"no complete observation for {quiet:.0f} s, {gap()}"
    late = f"{missed:.0%} of the last ticks were missed; relieve the machine, or ask for less"
    if missed > MANY_MISSED:
        return Level.ERROR, late
    fallback = loop.degradation.fallback
    if fallback > 0:
        return Level.WARN, f"inference is too slow for what is asked; degraded to {fallback.words}"
    if loop.critic_failed:
        return Level.WARN, f"critic {loop.critic} failed; plain behaviour cloning acts instead"
    if gate.state is not StreamState.COMMANDING:
        return Level.OK, "waiting for the first observation"
    if missed > SOME_MISSED:
        return Level.WARN, late
    if not gate.motion:
        return Level.WARN, "motion is not enabled; commands are published as shadows only"
    return Level.OK, "commanding"
