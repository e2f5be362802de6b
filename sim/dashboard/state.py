"""What the page shows, without web and without ROS: told what was heard, it answers with one consistent view."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.run_options import DEFAULTS, USE_RECOMMENDED
from qgf_ros.reports.statistics import wilson_interval

#: Figures of the telemetry that are plotted over time, with their titles.
CURVES = {
    "q": "Q",
    "gradient_norm": "gradient norm",
    "guidance_distance": "guided − unguided action, largest component",
    "latency_ms": "latency [ms]",
}
#: Ticks that the curves go back.
TICKS = 1000
#: Finished episodes that count for the success so far.
EPISODES = 1000
#: Between two episodes the bridge's time jumps by 1 s; a longer gap than this between two ticks [ns] is taken for one.
EPISODE_GAP = 500_000_000
#: A sender that says something at least once a second is lost after this long [s].
PATIENCE = 3.0

#: Options whose default leaves the choice to the bundle, as an empty word does.
_OWN_CHOICE = {name: DEFAULTS[name] for name in ("execution_horizon", "estimator")}

OK, WARN, ERROR = 0, 1, 2


@dataclass(frozen=True)
class StatusLine:
    """A level as in diagnostics (0 well, 1 wants a look, 2 an answer) and words, of a connection or a request."""

    level: int
    text: str


@dataclass(frozen=True)
class EpisodeRow:
    """A finished episode: the bridge's outcome, and the guidance weight of its ticks (nan: several, or unknown)."""

    task: int
    seed: int
    success: bool | None
    length: int
    guidance_weight: float


@dataclass(frozen=True)
class SuccessAtWeight:
    """Successes among the episodes at one guidance weight (nan: several), with their 95 % Wilson interval."""

    guidance_weight: float
    successes: int
    episodes: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class View:
    """What the page shows at one moment.

    Attributes:
        links: Connections by name.
        curves: For each of `CURVES`, time since the first tick [s] and value, float64 [2, K]; nan where none was measured.
        success_rate: Number of the episode, and for each of `successes` its share up to that episode, float64 [1 + W, K]; nan
            before its first one.
        episodes: The finished ones, newest first.
        successes: By guidance weight, in the order of first use.
        parameters: Values in force of the policy node.
        simulated: Whether a bridge was ever heard.
        notice: What came of the last request.
    """

    links: Mapping[str, StatusLine]
    curves: Mapping[str, NDArray[np.float64]]
    success_rate: NDArray[np.float64]
    episodes: tuple[EpisodeRow, ...]
    successes: tuple[SuccessAtWeight, ...]
    parameters: Mapping[str, Any]
    simulated: bool
    notice: StatusLine


class PageState:
    """Collects what was heard. Not thread safe: the dashboard listens and draws in one thread.

    Args:
        clock: Returns the time by which a silence is measured [s].
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._status = StatusLine(OK, "")
        self._ticks: deque[tuple[float, ...]] = deque(maxlen=TICKS)
        self._first = self._newest = 0
        self._episodes: deque[EpisodeRow] = deque(maxlen=EPISODES)
        self._weights: set[float] = set()
        self._figures: Mapping[str, str] = {}
        self._asked: Mapping[str, str] = {}
        self._parameters: dict[str, Any] = {}
        self._notice = StatusLine(OK, "")
        #: Grows whenever ticks or episodes come in.
        self.version = 0

    def tick(self, stamp: int, figures: Mapping[str, str]) -> None:
        """Take in the telemetry of the tick that answered the observation stamped `stamp` [ns].

        Curves begin anew when time falls back, as when a simulation is started again.
        """
        self._heard["telemetry"] = self._clock()
        if not self._ticks or stamp < self._newest:
            self._ticks.clear()
            self._first = stamp
        if not 0 <= stamp - self._newest < EPISODE_GAP:
            self._weights.clear()
        self._newest = stamp
        self._figures = figures
        self._ticks.append(((stamp - self._first) * 1e-9, *(_number(figures.get(name)) for name in CURVES)))
        self._weights.add(_number(figures.get("guidance_weight")))
        self.version += 1

    def status(self, level: int, message: str, figures: Mapping[str, str]) -> bool:
        """Take in what the policy node says of itself; return whether its parameters have to be read.

        That is when it was unheard of, or lost, or runs with other values than are known: it may have been started again.
        """
        unread = not self._lives("policy node") or self._contradicted(figures)
        self._heard["policy node"] = self._clock()
        self._status = StatusLine(level, message)
        self._asked = figures
        return unread

    def bridge(self) -> bool:
        """Note a sign of life of the bridge; return whether it was unheard of, or lost, before."""
        new = not self._lives("bridge")
        self._heard["bridge"] = self._clock()
        return new

    def episode(self, outcome: Mapping[str, Any]) -> None:
        """Take in the outcome of a finished episode; see `qgf_sim.bridge.episodes.EpisodeOutcome`.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: It is none.
        """
        weight = next(iter(self._weights)) if len(self._weights) == 1 else math.nan
        task, seed, length = (int(outcome[key]) for key in ("task", "seed", "length"))
        success = None if outcome["success"] is None else bool(outcome["success"])
        self._episodes.append(EpisodeRow(task, seed, success, length, weight))
        self.version += 1

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Take in values in force of the policy node's parameters."""
        self._parameters.update(values)

    def value(self, name: str) -> Any:
        """Return the value in force of a parameter, or None if it is unknown.

        Where the choice is left to the node, it is what that chose.
        """
        if not self._left_to_node(name):
            return self._parameters.get(name)
        chosen = self._asked.get(name)
        number = _number(chosen)
        return number if math.isfinite(number) else chosen

    def notice(self, level: int, text: str) -> None:
        """Take in what came of a request."""
        self._notice = StatusLine(level, text)

    def view(self) -> View:
        """Return what the page shows now."""
        table = np.array(self._ticks, dtype=np.float64).reshape(-1, 1 + len(CURVES)).T
        table[~np.isfinite(table)] = np.nan
        return View(
            {"policy node": self._node_link(), "telemetry": self._telemetry_link(), "bridge": self._bridge_link()},
            {name: table[[0, row]] for row, name in enumerate(CURVES, start=1)},
            self._success_rate(),
            tuple(reversed(self._episodes)),
            self._successes(),
            dict(self._parameters),
            "bridge" in self._heard,
            self._notice,
        )

    def _contradicted(self, figures: Mapping[str, str]) -> bool:
        for name in self._parameters.keys() & figures.keys():
            said, known = figures[name], self._parameters[name]
            if not self._left_to_node(name) and str(known) != said and known != _number(said):
                return True
        return False

    def _left_to_node(self, name: str) -> bool:
        """Whether the value of a parameter leaves the choice to the node."""
        if name == "guidance_weight" and self._parameters.get(USE_RECOMMENDED):
            return True
        value = self._parameters.get(name)
        return value == "" or (name in _OWN_CHOICE and value == _OWN_CHOICE[name])

    def _silence(self, name: str) -> float:
        """Return for how long nothing was heard [s], infinity before the first word."""
        return self._clock() - self._heard.get(name, -math.inf)

    def _lives(self, name: str) -> bool:
        return self._silence(name) <= PATIENCE

    def _node_link(self) -> StatusLine:
        if "policy node" not in self._heard:
            return StatusLine(WARN, "not seen yet")
        if not self._lives("policy node"):
            return StatusLine(ERROR, f"lost, silent for {self._silence('policy node'):.0f} s")
        if _number(self._asked.get("stopped")) == 1.0:  # a look is not enough: it takes somebody to resume
            return StatusLine(ERROR, self._status.text)
        return self._status

    def _telemetry_link(self) -> StatusLine:
        if "telemetry" not in self._heard:
            return StatusLine(WARN, "no tick yet")
        if not self._lives("telemetry"):
            return StatusLine(WARN, f"stale, the last tick was {self._silence('telemetry'):.0f} s ago")
        return StatusLine(OK, f"tick {self._figures.get('tick', '?')}")

    def _bridge_link(self) -> StatusLine:
        if "bridge" not in self._heard:
            return StatusLine(OK, "none seen; on a robot there is none")
        if not self._lives("bridge"):
            return StatusLine(ERROR, f"lost, silent for {self._silence('bridge'):.0f} s")
        return StatusLine(OK, "running")

    def _judged(self) -> dict[str, list[tuple[int, EpisodeRow]]]:
        """Return the episodes that succeeded or failed, by weight as a word, each with its number among them."""
        groups: dict[str, list[tuple[int, EpisodeRow]]] = {}
        for number, row in enumerate(row for row in self._episodes if row.success is not None):
            groups.setdefault(f"{row.guidance_weight:g}", []).append((number, row))  # a nan equals no other
        return groups

    def _successes(self) -> tuple[SuccessAtWeight, ...]:
        found = []
        for rows in self._judged().values():
            count = sum(bool(row.success) for _, row in rows)
            weight = rows[0][1].guidance_weight
            found.append(SuccessAtWeight(weight, count, len(rows), wilson_interval(count, len(rows))))
        return tuple(found)

    def _success_rate(self) -> NDArray[np.float64]:
        groups = self._judged()
        count = sum(map(len, groups.values()))
        found = np.full((1 + len(groups), count), np.nan)
        found[0] = np.arange(1, count + 1)
        for line, rows in zip(found[1:], groups.values()):
            rates = np.cumsum([bool(row.success) for _, row in rows]) / np.arange(1, len(rows) + 1)
            ends = [*(number for number, _ in rows[1:]), count]
            for (begin, _), end, rate in zip(rows, ends, rates):
                line[begin:end] = rate
        return found


def _number(text: str | None) -> float:
    """Return a figure of a diagnostic as a number, nan for a word or nothing."""
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
