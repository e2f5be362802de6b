"""The whole loop over DDS in numbers: from an observation going out to its command coming in. No ROS in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qgf_ros.reports.statistics import percentiles

SCHEMA = 1
#: The policy node, and the floor: a node that takes the same messages in and answers with an empty command at once.
SUBJECTS = ("node", "echo")


@dataclass(frozen=True)
class Setting:
    """Who is asked, and under which conditions.

    Attributes:
        subject: One of `SUBJECTS`.
        rate: Observations a second [Hz].
        neighbour: Whether another process keeps a core busy meanwhile.
    """

    subject: str
    rate: int
    neighbour: bool


@dataclass(frozen=True)
class Exchange:
    """One observation and its answer; times of the system's clock [s].

    Attributes:
        sent: When the last message of the observation was published.
        published: When its command was published, as its writer stamped it; nan if it never came.
        received: When the command was at hand again.
        inference: Duration of the inference behind the command [s].
        stamp: Of the observation, before its first message was published.
    """

    sent: float
    published: float = math.nan
    received: float = math.nan
    inference: float = 0.0
    stamp: float = math.nan


@dataclass
class Trace:
    """What was measured of one setting.

    Attributes:
        exchanges: In the order in which they were sent.
        seconds: How long the measured turns took [s].
        processor: Processor time of the subject's process meanwhile [s].
    """

    exchanges: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    processor: float = 0.0

    def record(self, setting: Setting) -> dict[str, Any]:
        """Return the record of the setting.

        ``answer_ms`` is from the stamp of the observation to the publication of its command, with all that lies between;
        ``overhead_ms`` from the observation to that, and ``round_trip_ms`` to its arrival, both without inference. ``missed``
        counts commands published later than a period after the observation, or never.
        """
        answered = [one for one in self.exchanges if math.isfinite(one.published)]
        period = 1.0 / setting.rate
        return {
            **asdict(setting),
            "ticks": len(self.exchanges),
            "missed": sum(not one.published - one.sent <= period for one in self.exchanges),
            "unanswered": len(self.exchanges) - len(answered),
            "answer_ms": distribution([one.published - one.stamp for one in answered]),
            "inference_ms": distribution([one.inference for one in answered]),
            "overhead_ms": distribution([one.published - one.sent - one.inference for one in answered]),
            "round_trip_ms": distribution([one.received - one.sent - one.inference for one in answered]),
            "processor_seconds_per_minute": 60.0 * self.processor / self.seconds if self.seconds else math.nan,
        }


def distribution(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and maximum of durations [s], in milliseconds; nan where there are none."""
    ranks = percentiles([1e3 * value for value in seconds], (50.0, 90.0, 99.0, 100.0))
    return dict(zip(("p50", "p90", "p99", "max"), ranks))
