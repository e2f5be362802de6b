"""What an action costs: operations counted from the graphs and the calls, and latency measured.

The calls are counted, not derived: counting wrappers stand in for the velocity field and the critic while one action is
inferred. Twice, because two things are worth knowing:

- *algorithm*: the sampler, and for N > 1 the values that choose among the candidates. This is what the paper compares.
- *node*: what `Policy.act` runs. Beside every guided candidate it runs its unguided twin, to report how far guidance
  moved the action, and it asks for the value of the action.

A call is counted in rows, since N candidates share a call. An encoder sees the observation once, whatever N is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.analysis.flops import Flops, count_flops
from qgf_ros.analysis.inputs import Primitives
from qgf_ros.bundle.own_graphs import estimators_of
from qgf_ros.bundle.store import critic_file, encoder_file
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.names import METHODS
from qgf_ros.guidance.protocols import ActionValue, Array, Flow, Rows
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import QGF, Guidance
from qgf_ros.reports.statistics import percentiles
from qgf_ros.runtime.encoders import Encode, Features, Images, dark
from qgf_ros.runtime.policy import Policy

#: Candidates N.
CANDIDATES = (1, 4, 16)


@dataclass(frozen=True)
class Calls:
    """Rows that each primitive was asked for, per action."""

    velocity: int = 0
    vjp: int = 0
    critic_value: int = 0
    critic_gradient: int = 0
    encoder: int = 0
    critic_encoder: int = 0


class Counter:
    """Wraps the models of a bundle and counts the rows they are asked for, and how often (`batches`).

    Args:
        primitives: The models; of the critics the first.
    """

    def __init__(self, primitives: Primitives) -> None:
        self.calls = Calls()
        self.batches = Calls()
        self.name, critic = next(iter(primitives.critics.items()))
        self.velocity: VelocityField = _CountedField(primitives.velocity, self)
        self.critic: Critic = _CountedCritic(critic, self)
        names = {whose: "encoder" if whose is None else "critic_encoder" for whose in primitives.encoders}
        self.encoders = {whose: self._counted(encode, names[whose]) for whose, encode in primitives.encoders.items()}

    def _counted(self, encode: Encode, name: str) -> Encode:
        def counted(images: Images, observations: Array) -> Array:
            self.add(**{name: len(observations)})
            return encode(images, observations)

        return counted

    def add(self, **rows: int) -> None:
        """Add rows of one primitive."""
        for name, count in rows.items():
            self.calls = replace(self.calls, **{name: getattr(self.calls, name) + count})
            self.batches = replace(self.batches, **{name: getattr(self.batches, name) + 1})


class _CountedField:
    def __init__(self, velocity: VelocityField, counter: Counter) -> None:
        self._velocity, self._counter = velocity, counter

    def given(self, observations: Array) -> Flow:
        return _CountedFlow(self._velocity.given(observations), self._counter)


class _CountedFlow:
    def __init__(self, flow: Flow, counter: Counter) -> None:
        self._flow, self._counter = flow, counter

    def __call__(self, a: Array, t: Array) -> Array:
        self._counter.add(velocity=len(a))
        return self._flow(a, t)

    def vjp(self, a: Array, t: Array, u: Array) -> tuple[Array, Array]:
        self._counter.add(vjp=len(a))
        return self._flow.vjp(a, t, u)

    def rows(self, rows: Rows) -> Flow:
        return _CountedFlow(self._flow.rows(rows), self._counter)


class _CountedCritic:
    def __init__(self, critic: Critic, counter: Counter) -> None:
        self._critic, self._counter = critic, counter

    def given(self, observations: Array) -> ActionValue:
        return _CountedValue(self._critic.given(observations), self._counter)

    def aggregate(self, q: Array) -> Array:
        return self._critic.aggregate(q)


class _CountedValue:
    def __init__(self, value: ActionValue, counter: Counter) -> None:
        self._value, self._counter = value, counter

    def __call__(self, a: Array) -> Array:
        self._counter.add(critic_value=len(a))
        return self._value(a)

    def value_and_grad(self, a: Array) -> tuple[Array, Array]:
        self._counter.add(critic_gradient=len(a))
        return self._value.value_and_grad(a)

    def rows(self, rows: Rows) -> ActionValue:
        return _CountedValue(self._value.rows(rows), self._counter)


@dataclass(frozen=True)
class Case:
    """One way to infer an action.

    Attributes:
        method: "bc" or one of `METHODS`.
        candidates: N.
    """

    method: str
    candidates: int

    @property
    def guidance(self) -> Guidance:
        """How it guides."""
        return QGF if self.method == "bc" else Guidance(estimator=self.method)

    @property
    def weight(self) -> float:
        """Any weight above 0: what an action costs does not depend on it."""
        return 0.0 if self.method == "bc" else 0.03


def cases(candidates: Sequence[int] = CANDIDATES, known: Sequence[str] = METHODS) -> list[Case]:
    """Return every method that a bundle knows with every N; "bc" with N > 1 is best-of-N."""
    return [Case(method, n) for method in ("bc", *METHODS) if method in ("bc", *known) for n in candidates]


def count_algorithm(case: Case, primitives: Primitives, noise: Array) -> Calls:
    """Return the calls of the sampler and of choosing among noises [N, C]."""
    manifest = primitives.manifest
    counter = Counter(primitives)
    s = np.zeros((1, manifest.observation_size), dtype=np.float32)
    seen = Features(counter.encoders, s, dark(manifest)) if counter.encoders else None
    rows, asked = np.zeros(len(noise), dtype=np.int64), bool(case.weight) or len(noise) > 1
    flow = counter.velocity.given(s if seen is None else seen.policy).rows(rows)
    value = counter.critic.given(s if seen is None else seen.of(counter.name)).rows(rows) if asked else None
    steps = manifest.denoising_steps
    action = sample(flow, value, noise, case.weight, steps=steps, guidance=case.guidance).action
    if len(noise) > 1 and value is not None:
        value(action)
    return counter.calls


def count_node(case: Case, primitives: Primitives, noise: Array) -> Calls:
    """Return the calls of `Policy.act` for noises [N, C]."""
    return _count_node(case, primitives, noise).calls


def count_node_batches(case: Case, primitives: Primitives, noise: Array) -> Calls:
    """Return the calls of `Policy.act` for noises [N, C], a call of many rows counting once."""
    return _count_node(case, primitives, noise).batches


def _count_node(case: Case, primitives: Primitives, noise: Array) -> Counter:
    counter = Counter(primitives)
    policy = Policy(primitives.manifest, counter.velocity, {counter.name: counter.critic}, encoders=counter.encoders)
    _act(policy, counter.name, case, noise)
    return counter


def _act(policy: Policy, critic: str, case: Case, noise: Array) -> None:
    observation = np.zeros((1, policy.manifest.observation_size), dtype=np.float32)
    policy.act(observation, noise[None], critic, case.weight, case.guidance, images=dark(policy.manifest))


def primitive_flops(bundle: Path, critic: str) -> dict[str, Flops]:
    """Return the operations of one row of each primitive that there is, by the names of `Calls`."""
    gradient = bundle / critic_file(critic)
    encoders = {"encoder": bundle / encoder_file(), "critic_encoder": bundle / encoder_file(critic)}
    return {
        "velocity": count_flops(bundle / "velocity.onnx"),
        "vjp": count_flops(bundle / "velocity_vjp.onnx"),
        "critic_value": count_flops(gradient, outputs=("q",)),
        "critic_gradient": count_flops(gradient),
        **{name: count_flops(path) for name, path in encoders.items() if path.is_file()},
    }


def total_flops(calls: Calls, flops: dict[str, Flops]) -> int:
    """Return the operations of some calls."""
    return sum(rows * flops[name].total for name, rows in asdict(calls).items() if rows)


def measure_compute(
    bundle: Path,
    primitives: Primitives,
    *,
    candidates: tuple[int, ...] = CANDIDATES,
    rounds: int = 200,
    warm_up: int = 10,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Count and time every method.

    Args:
        bundle: Folder of the bundle.
        primitives: Its models, on one thread; the first critic guides.
        candidates: Values of N.
        rounds: Timed actions of each case.
        warm_up: Rounds before them that are not timed.
        seed: Of the noises.
        progress: Called after each round.

    Returns:
        ``primitives`` (operations of one row), and ``cases`` with calls, GFLOPs and latency in ms.

    Raises:
        GuidanceError: There is no round, or an N below 1.
    """
    if rounds < 1 or warm_up < 0 or min(candidates) < 1:
        raise GuidanceError(
            f"rounds {rounds}, warm-up {warm_up} and N {candidates} were given; expected at least 1, 0, 1"
        )
    flops = primitive_flops(bundle, next(iter(primitives.critics)))
    chosen = cases(candidates, estimators_of(primitives.manifest))
    latencies = time_cases(primitives, chosen, rounds=rounds, warm_up=warm_up, seed=seed, progress=progress)
    records = []
    for case in chosen:
        median, p99 = percentiles(latencies[case])
        records.append(
            {**asdict(case), **count_case(case, primitives, flops), "latency_ms": {"p50": median, "p99": p99}}
        )
    return {
        "primitives": {key: {"products": value.products, "others": value.others} for key, value in flops.items()},
        "rounds": rounds,
        "cases": records,
    }


def count_case(case: Case, primitives: Primitives, flops: dict[str, Flops]) -> dict[str, Any]:
    """Return calls and GFLOPs of one action, of the algorithm and of the node; they do not depend on the noise."""
    noise = np.zeros((case.candidates, primitives.manifest.chunk_size), dtype=np.float32)
    found = {"algorithm": count_algorithm(case, primitives, noise), "node": count_node(case, primitives, noise)}
    counts = {name: {key: rows for key, rows in asdict(calls).items() if key in flops} for name, calls in found.items()}
    return {name: {"calls": counts[name], "gflops": total_flops(calls, flops) / 1e9} for name, calls in found.items()}


def time_cases(
    primitives: Primitives,
    chosen: Sequence[Case],
    *,
    rounds: int,
    warm_up: int = 10,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> dict[Case, list[float]]:
    """Return the time that each of `rounds` actions took with each case [ms].

    Every round infers one action with every case, so that whatever else the machine does falls on all of them alike.
    """
    name, critic = next(iter(primitives.critics.items()))
    policy = Policy(primitives.manifest, primitives.velocity, {name: critic}, encoders=primitives.encoders)
    random = np.random.default_rng(seed)
    latencies: dict[Case, list[float]] = {case: [] for case in chosen}
    most = max(case.candidates for case in chosen)
    for round_number in range(-warm_up, rounds):
        noise = random.standard_normal((most, primitives.manifest.chunk_size), dtype=np.float32)
        for case in chosen:
            start = time.perf_counter()
            _act(policy, name, case, noise[: case.candidates])
            elapsed = (time.perf_counter() - start) * 1e3
            if round_number >= 0:
                latencies[case].append(elapsed)
        progress()
    return latencies
