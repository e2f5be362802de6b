"""How well each method climbs the critic (the paper's Figure 4), and how far from the data it ends.

A higher Q is worth nothing where the critic errs, and it errs away from the data. So every final action is reported
with its Q *and* with its distance to the actions that the data set holds in similar situations. Best-of-N, which can
only choose among actions of the policy, is the oracle for Q at a distance that the policy keeps by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.analysis.inputs import Chunks
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.names import METHODS
from qgf_ros.guidance.protocols import Array
from qgf_ros.guidance.sampler import best_candidate, sample
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.reports.numbers import mean_and_error

#: Guidance weights tried, and step sizes of ``grad_step``.
WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Candidates N of best-of-N.
CANDIDATES = (1, 2, 4, 8, 16, 32)
_QUERIES_AT_ONCE = 32


def nearest_rows(observations: Array, queries: Array, count: int) -> NDArray[np.int64]:
    """Return the rows of the nearest observations.

    The distance is Euclidean after each component is divided by its standard deviation over `observations`; a component
    that never changes there is left out.

    Args:
        observations: Of the data set [R, S].
        queries: [N, S].
        count: Neighbours k of each query, at most R.

    Returns:
        [N, k], in no order.
    """
    deviation = observations.std(axis=0, dtype=np.float64)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-6).astype(np.float32)
    centre = observations.mean(axis=0, dtype=np.float64).astype(np.float32)
    known = (observations.astype(np.float32) - centre) * scale
    squares = np.square(known).sum(axis=1)
    found = []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        asked = (queries[first : first + _QUERIES_AT_ONCE].astype(np.float32) - centre) * scale
        # |x - y|^2 but for |x|^2, which is the same for every row.
        distance = squares - 2.0 * (asked @ known.T)
        found.append(np.argpartition(distance, count - 1, axis=1)[:, :count])
    return np.concatenate(found)


@dataclass(frozen=True)
class Neighbourhoods:
    """Actions of the data set in the situations nearest to each state.

    Attributes:
        actions: [N, k, C].
    """

    actions: Array

    @classmethod
    def of(cls, chunks: Chunks, observations: Array, count: int) -> Neighbourhoods:
        """Look up the `count` nearest observations of each state [N, S] in a data set."""
        if not 1 <= count <= len(chunks.observations):
            raise GuidanceError(
                f"{count} neighbours were asked for; expected 1 to {len(chunks.observations)}, the chunks of the data set"
            )
        return cls(chunks.actions[nearest_rows(chunks.observations, observations, count)])

    def distance(self, action: Array) -> Array:
        """Return the root mean square component of actions [N, C] minus the nearest of the k actions [N]."""
        difference = np.square(self.actions.astype(np.float64) - action[:, None]).mean(axis=2)
        return np.asarray(np.sqrt(difference.min(axis=1)))


def measure_q_optimization(
    velocity: VelocityField,
    critic: Critic,
    observations: Array,
    noise: Array,
    data_actions: Array,
    neighbourhoods: Neighbourhoods,
    *,
    steps: int,
    weights: tuple[float, ...] = WEIGHTS,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run every method from the same noises.

    Args:
        velocity: The velocity field.
        critic: The critic, which guides and judges.
        observations: [N, S].
        noise: [N, M, C]; best-of-n sees the first n of the M candidates, every guided method the first.
        data_actions: What the data set does in these states [N, C].
        neighbourhoods: Of these states.
        steps: Euler steps T.
        weights: Guidance weights, and step sizes of ``grad_step``.
        progress: Called once per method and weight, and once for best-of-N.

    Returns:
        ``data``, ``bfn`` (a list over N) and every method (a list over weights); each entry holds ``q`` and
        ``distance`` with means and 95 % half widths, and of the guided ones ``gain`` too, the paired difference in Q
        from plain BC.

    Raises:
        GuidanceError: There are fewer than two candidates.
    """
    batch, candidates, size = noise.shape
    if candidates < 2:
        raise GuidanceError(f"candidates {candidates} was given; best-of-N needs at least 2 to choose from")
    flow, value = velocity.given(observations), critic.given(observations)
    repeated = np.repeat(np.arange(batch), candidates)
    plain = sample(flow.rows(repeated), None, noise.reshape(-1, size), steps=steps).action
    q = critic.aggregate(value.rows(repeated)(plain)).reshape(batch, candidates)
    plain = plain.reshape(batch, candidates, size)

    def entry(action: Array, reached: Array) -> dict[str, Any]:
        return {
            "q": mean_and_error(reached),
            "gain": mean_and_error(reached - q[:, 0]),
            "distance": mean_and_error(neighbourhoods.distance(action)),
        }

    rows = np.arange(batch)
    oracle = []
    for n in (n for n in CANDIDATES if n <= candidates):
        best = best_candidate(q[:, :n])
        oracle.append({"candidates": n, **entry(plain[rows, best], q[rows, best])})
    numbers: dict[str, Any] = {
        "data": entry(data_actions, critic.aggregate(value(data_actions))),
        "bfn": oracle,
    }
    progress()
    for method in METHODS:
        numbers[method] = []
        for weight in weights:
            guidance = Guidance(estimator=method)
            action = sample(flow, value, noise[:, 0], weight, steps=steps, guidance=guidance).action
            numbers[method].append({"weight": weight, **entry(action, critic.aggregate(value(action)))})
            progress()
    return numbers


def relative(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Average over critics, whose Q have different units.

    Args:
        parts: By critic, from `measure_q_optimization`.

    Returns:
        By method (and "bfn", "data") a list of entries with ``gain`` in units of the gain of the largest best-of-N over
        plain BC (0 is BC, 1 the oracle), and ``distance``; each ``{"mean", "error"}``.
    """
    methods = next(iter(parts.values()))
    combined: dict[str, Any] = {}
    for method in methods:
        lists = [part[method] if isinstance(part[method], list) else [part[method]] for part in parts.values()]
        unit = [1.0 / part["bfn"][-1]["gain"]["mean"] for part in parts.values()]
        combined[method] = [
            {
                **{key: same[0][key] for key in ("weight", "candidates") if key in same[0]},
                "gain": _average([one["gain"] for one in same], unit),
                "distance": _average([one["distance"] for one in same], [1.0] * len(same)),
            }
            for same in zip(*lists)
        ]
    return combined


def _average(values: list[dict[str, float]], factors: list[float]) -> dict[str, float]:
    errors = [value["error"] * factor for value, factor in zip(values, factors)]
    return {
        "mean": float(np.mean([value["mean"] * factor for value, factor in zip(values, factors)])),
        "error": float(np.sqrt(np.square(errors).sum())) / len(errors),
    }


def rounds(weights: tuple[float, ...]) -> int:
    """Return how often `measure_q_optimization` calls its progress."""
    return 1 + len(METHODS) * len(weights)
