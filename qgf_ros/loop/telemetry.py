"""What the node says of a tick in numbers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeAlias

from qgf_ros.control.command import Command
from qgf_ros.control.controller import Controller
from qgf_ros.control.observation import Observation
from qgf_ros.control.safety import SafetyEnvelope
from qgf_ros.control.vision.pictures import stamps_text
from qgf_ros.loop.tick_statistics import TickStatistics

Figures: TypeAlias = Mapping[str, str | int | float]


def tick_figures(
    controller: Controller,
    statistics: TickStatistics,
    command: Command,
    observation: Observation,
    latency: float,
    states: Figures,
) -> Figures:
    """Return the telemetry of a tick.

    Args:
        controller: Made the command.
        statistics: Counted the tick.
        command: What was sent.
        observation: What it answers.
        latency: From the complete observation to the command [s].
        states: What else there is to say, by name; goes before what the statistics say by now.
    """
    chunk = dict(command.telemetry)
    if "latency_ms" in chunk:  # of the policy alone; latency_ms is that of the whole tick
        chunk["inference_ms"] = chunk.pop("latency_ms")
    summary = statistics.summary()
    seen = {} if observation.sight is None else {"frame_stamps": stamps_text(observation.sight.stamps)}
    return {
        "tick": int(summary.pop("ticks")),
        **controller.settings.figures(),
        "critic": controller.critic,
        "guidance_weight": controller.guidance_weight,
        "inferred": int(command.inferred),
        "command": str(command.values.tolist()),  # whatever outputs it goes to; floats to the bit
        **interventions(controller.safety),
        # What a replay needs to know that it sees what this tick saw.
        "noise_drawn": controller.noise.drawn,
        "observation_crc32": zlib.crc32(observation.vector.tobytes()),
        **seen,
        **chunk,
        "latency_ms": latency * 1e3,
        **summary,
        **states,
    }


def interventions(safety: SafetyEnvelope) -> dict[str, str | int | float]:
    """Return how often the safety envelope intervened, by kind, and what it did at the last tick."""
    counts = {f"limited_{kind}": count for kind, count in safety.counts.items()}
    return {**counts, "intervention": safety.explanation}
