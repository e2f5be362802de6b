"""Guidance in one dimension, where everything is known: the setting of the paper's Figure 2.

Actions follow three narrow Gaussians and a_0 ~ N(0, noise^2). The velocity field that flow matching would learn from
them, E[a_1 - a_0 | a_t] along a_t = (1 - t) a_0 + t a_1, has a closed form, and so has its derivative. The critic is
Q = -|a - a*|, right everywhere, so no method can blame it.

Its gradient at a noised action points to a* too, and yet it misleads: it draws a_t to where a* is *now*, and from there
the flow goes on to another mode. With modes 0.1, 0.5, 0.9 and a* = 0.5, all of the noise lies below a*; the noised
action is pushed up to 0.5, which early in the flow is where samples of 0.9 come from. The estimate of QGF asks at the
end of the flow instead: a sample bound for 0.9 is pushed down.

When this holds. Where the weight exceeds max_t |v(a*, t)|, reported as `holding_weight`, guidance pins the noised action
to a* against the flow, and then "noisy" ends there as well: for a critic that is right everywhere, brute force works. It
does so earlier in fact: `noisy_recovers_at` is the first weight of the sweep at which most samples reach a*. The
phenomenon also needs modes that lie several noise widths from the centre of the noise. For modes inside [-1, 1] and unit
noise they do not, and with small steps "noisy" does as well as QGF at every weight. Hence the noise of 0.1 here; in
units of the noise the setting reads N(0, 1) and modes at 1, 5 and 9. `noise_sweep` gives the numbers for other widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Unconditioned
from qgf_ros.guidance.estimators import ESTIMATORS
from qgf_ros.guidance.protocols import Array
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import Guidance
from qgf_ros.reports.numbers import mean_and_error

#: Estimators of the figure; "bc" is any of them at weight 0.
ESTIMATORS_SHOWN = ("noisy", "bptt", "qgf")


@dataclass(frozen=True)
class ToySetting:
    """The toy problem.

    Attributes:
        modes: Centres of the Gaussians, equally likely.
        optimum: a*, one of the modes.
        deviation: Standard deviation of each Gaussian.
        noise: Standard deviation of a_0.
        steps: Euler steps T.
        samples: Noises, the same for every method and weight.
        seed: Of the noises.
        weights: Guidance weights of the trajectories shown.
        sweep: Guidance weights of the curves.
    """

    modes: tuple[float, ...] = (0.1, 0.5, 0.9)
    optimum: float = 0.5
    deviation: float = 0.05
    noise: float = 0.1
    steps: int = 50
    samples: int = 1000
    seed: int = 0
    weights: tuple[float, ...] = (0.1, 0.2, 0.4)
    sweep: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.2, 2.0, 4.0, 8.0)

    def __post_init__(self) -> None:
        if self.optimum not in self.modes:
            raise GuidanceError(f"optimum {self.optimum} was given; expected one of the modes {self.modes}")
        if min(self.deviation, self.noise) <= 0.0 or min(self.steps, self.samples) < 1:
            raise GuidanceError("deviation, noise, steps and samples of the toy must be above 0")


class MixtureFlow(Unconditioned):
    """The exact flow-matching velocity field of a mixture of Gaussians in one dimension; a `Flow` whatever is observed.

    Given mode k, (a_0, a_1) is Gaussian and a_t ~ N(t m_k, s_t^2) with s_t^2 = (1 - t)^2 noise^2 + t^2 deviation^2, so

        E[a_1 - a_0 | a_t, k] = m_k + c_t (a_t - t m_k),   c_t = (t deviation^2 - (1 - t) noise^2) / s_t^2,

    and v is its mean under the posterior r_k of the mode. From r_k' = r_k (l_k - sum_j r_j l_j) with the score
    l_k = -(a_t - t m_k) / s_t^2 of each mode follows v' = c_t + sum_k r_k' E[a_1 - a_0 | a_t, k].

    Args:
        modes: Centres m_k, equally likely.
        deviation: Standard deviation of each mode.
        noise: Standard deviation of a_0.
    """

    def __init__(self, modes: tuple[float, ...], deviation: float, noise: float) -> None:
        self._modes = np.asarray(modes)
        self._deviation, self._noise = deviation, noise

    def __call__(self, a: Array, t: Array) -> Array:
        """See `Flow`; actions are [N, 1]."""
        posterior, conditional, _, _ = self._parts(a, t)
        return np.asarray((posterior * conditional).sum(axis=1, keepdims=True))

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        """See `Flow`."""
        posterior, conditional, slope, score = self._parts(a, t)
        change = posterior * (score - (posterior * score).sum(axis=1, keepdims=True))
        derivative = slope + (change * conditional).sum(axis=1, keepdims=True)
        return (posterior * conditional).sum(axis=1, keepdims=True), u * derivative

    def _parts(self, a: Array, t: Array) -> tuple[Array, Array, Array, Array]:
        """Return r_k, E[a_1 - a_0 | a_t, k], c_t and l_k, each [N, K] (c_t [N, 1])."""
        time = t[:, None]
        variance = np.square((1.0 - time) * self._noise) + np.square(time * self._deviation)
        slope = (time * self._deviation**2 - (1.0 - time) * self._noise**2) / variance
        offset = a - time * self._modes
        logarithm = -0.5 * np.square(offset) / variance
        posterior = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        return posterior, self._modes + slope * offset, slope, -offset / variance


class DistanceCritic(Unconditioned):
    """Q = -|a - a*|, an ensemble of one; a `Critic`, and an `ActionValue` whatever is observed."""

    def __init__(self, optimum: float) -> None:
        self._optimum = optimum

    def __call__(self, a: Array) -> Array:
        """See `ActionValue`."""
        return np.asarray(-np.abs(a - self._optimum).sum(axis=1)[None])

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        """See `ActionValue`; 0 at a* itself."""
        return self(a), np.sign(self._optimum - a)

    def aggregate(self, q: Array) -> Array:
        """See `Critic`."""
        return np.asarray(q[0])


class _Recorder(Unconditioned):
    """A flow that remembers where it was asked last at each time.

    The estimators look ahead only, so the last question at k/T is that of the sampler's own step k.
    """

    def __init__(self, flow: MixtureFlow) -> None:
        self._flow = flow
        self.asked: dict[float, Array] = {}

    def __call__(self, a: Array, t: Array) -> Array:
        self.asked[float(t[0])] = a
        return self._flow(a, t)

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        return self._flow.vjp(a, t, u)


@dataclass(frozen=True)
class ToyRun:
    """One method at one weight.

    Attributes:
        path: Every a_t and the finished action [T + 1, N].
        numbers: Its summary.
    """

    path: Array
    numbers: dict[str, Any] = field(default_factory=dict)


def run_toy(
    setting: ToySetting, progress: Callable[[], None] = lambda: None
) -> tuple[dict[str, Any], Mapping[tuple[str, float], ToyRun]]:
    """Run every method.

    Args:
        setting: The toy problem.
        progress: Called after each of the `toy_runs(setting)` runs.

    Returns:
        The numbers, and the runs at the shown weights by (method, weight); plain BC is ("bc", 0.0).
    """
    runs = {("bc", 0.0): _run(setting, "qgf", 0.0)}
    progress()
    for method in ESTIMATORS_SHOWN:
        for weight in sorted({*setting.weights, *setting.sweep}):
            runs[method, weight] = _run(setting, method, weight)
            progress()
    flow = MixtureFlow(setting.modes, setting.deviation, setting.noise)
    times = np.arange(setting.steps) / setting.steps
    at_optimum = np.full((setting.steps, 1), setting.optimum)
    sweep = [runs[method, weight].numbers for method in ESTIMATORS_SHOWN for weight in setting.sweep]
    recovered = [run["weight"] for run in sweep if run["method"] == "noisy" and run["share_at_optimum"] > 0.5]
    numbers: dict[str, Any] = {
        "setting": asdict(setting),
        "holding_weight": float(np.abs(flow(at_optimum, times)).max()),
        "noisy_recovers_at": min(recovered, default=None),
        "bc": runs["bc", 0.0].numbers,
        "runs": [runs[method, weight].numbers for method in ESTIMATORS_SHOWN for weight in setting.weights],
        "sweep": sweep,
        "gradient_along_bc": {
            method: _spread_over_time(setting, flow, method, runs["bc", 0.0].path) for method in ESTIMATORS_SHOWN
        },
        "noise_sweep": _noise_sweep(setting, progress) if setting.sweep else [],
    }
    return numbers, runs


#: Widths of the noise tried beside the setting's own.
NOISES = (0.05, 0.2, 0.5, 1.0)


def toy_runs(setting: ToySetting) -> int:
    """Return how often `run_toy` calls its progress."""
    sweep = len(setting.sweep)
    return 1 + len(ESTIMATORS_SHOWN) * len({*setting.weights, *setting.sweep}) + len(NOISES) * 2 * sweep


def _run(setting: ToySetting, method: str, weight: float) -> ToyRun:
    flow = _Recorder(MixtureFlow(setting.modes, setting.deviation, setting.noise))
    critic = DistanceCritic(setting.optimum)
    noise = setting.noise * np.random.default_rng(setting.seed).standard_normal((setting.samples, 1))
    result = sample(flow, critic, noise, weight, steps=setting.steps, guidance=Guidance(estimator=method))
    asked = [flow.asked[k / setting.steps] for k in range(setting.steps)]
    path = np.concatenate([*asked, result.action], axis=1).T
    end = path[-1]
    modes = np.asarray(setting.modes)
    nearest = np.abs(end[:, None] - modes).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(modes)) / len(end)
    numbers = {
        "method": method if weight else "bc",
        "weight": weight,
        "shares": shares,
        "share_at_optimum": shares[setting.modes.index(setting.optimum)],
        "commonest_mode": modes[shares.argmax()],
        "q": mean_and_error(critic(end[:, None])[0]),
        "clipped": float(result.clip_fraction.mean()),
    }
    if weight:
        numbers.update(_pushes(setting, method, weight, path))
    return ToyRun(path, numbers)


def _gradients(setting: ToySetting, flow: MixtureFlow, method: str, path: Array) -> Array:
    """Return the estimates along paths, [T, N]."""
    critic = DistanceCritic(setting.optimum)
    rows = []
    for k in range(setting.steps):
        a, t = path[k][:, None], np.full(path.shape[1], k / setting.steps)
        estimate = ESTIMATORS[method](flow, critic, a, t, flow(a, t), setting.steps)
        rows.append(estimate.gradient[:, 0])
    return np.asarray(rows)


def _pushes(setting: ToySetting, method: str, weight: float, path: Array) -> dict[str, Any]:
    """Return how uneven the guidance was: the size of the gradient, and who was thrown further than a gap is wide."""
    flow = MixtureFlow(setting.modes, setting.deviation, setting.noise)
    size = np.abs(_gradients(setting, flow, method, path))
    gap = float(np.diff(np.sort(setting.modes)).min())
    return {
        "gradient": {"median": float(np.median(size)), "p99": float(np.percentile(size, 99)), "max": float(size.max())},
        "gradient_deviation": float(size.std()),
        "thrown": float((weight * size.max(axis=0) / setting.steps > gap).mean()),
    }


def _spread_over_time(setting: ToySetting, flow: MixtureFlow, method: str, path: Array) -> dict[str, Any]:
    size = np.abs(_gradients(setting, flow, method, path))
    ranks = {"p1": 1, "median": 50, "p99": 99}
    return {name: np.percentile(size, rank, axis=1) for name, rank in ranks.items()} | {"max": size.max(axis=1)}


def _noise_sweep(setting: ToySetting, progress: Callable[[], None]) -> list[dict[str, Any]]:
    """Return, for other widths of the noise, the share at a* of noisy and QGF over the weights of the sweep."""
    rows = []
    for noise in NOISES:
        other = ToySetting(**{**asdict(setting), "noise": noise})
        shares: dict[str, list[float]] = {"noisy": [], "qgf": []}
        for method, values in shares.items():
            for weight in setting.sweep:
                values.append(_run(other, method, weight).numbers["share_at_optimum"])
                progress()
        lead = np.subtract(shares["qgf"], shares["noisy"])
        best = int(lead.argmax())
        rows.append({"noise": noise, "largest_lead": lead[best], "at_weight": setting.sweep[best], **shares})
    return rows
