"""The tick, timed: every backend on the same function, the same inputs and the same threads, in the same rounds.

Where the bundle sees, a tick begins with pictures as they come from the cameras, and decoding and encoding are part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.analysis.compute import Case
from qgf_ros.benchmark.latency import Act, Float, Times, draw_inputs, ratio, take_turns
from qgf_ros.benchmark.tick_plan import BACKENDS, PEERS, PRECISIONS, Subject, TickPlan, load_policy, tick
from qgf_ros.benchmark.traffic import count_calls, count_traffic, encoder_bytes
from qgf_ros.control.inference import Chunk
from qgf_ros.errors import GuidanceError
from qgf_ros.reports.machine import LoadMeter, copy_bandwidth, describe_machine
from qgf_ros.reports.statistics import percentiles
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.precision import Precision

SCHEMA = 1
#: Largest difference of a normalised action at which two backends of full precision run the same function.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Contender:
    """One backend at one setting.

    Attributes:
        network: Name of the bundle.
        case: Method and N.
        backend: One of `BACKENDS` and `PEERS`.
        precision: One of `PRECISIONS`.
        act: What is timed.
        inputs: Observations [1, S] and noises [N, C] it is called with, the same for every backend of a setting.
        facts: What else is recorded of the setting.
        told: Telemetry of each call, where the bundle sees.
    """

    network: str
    case: Case
    backend: str
    precision: str
    act: Act
    inputs: Sequence[tuple[Float, Float]]
    facts: Mapping[str, Any]
    told: list[Mapping[str, float]] = field(default_factory=list)


def measure(
    networks: Mapping[str, Path], plan: TickPlan, progress: Callable[[str], None] = lambda note: None
) -> dict[str, Any]:
    """Check that all backends run the same function, then time them.

    Args:
        networks: Bundles by the name they have in the results.
        plan: What to time.
        progress: Called once for each contender that agrees, then after each round.

    Returns:
        ``machine``, ``load`` (cores that others kept busy before and during), ``copy_bandwidth`` [bytes/s], ``plan``,
        and ``results``, one for each contender.

    Raises:
        GuidanceError: A backend's action differs from the reference by more than `TOLERANCE`, or there is nothing to
            time.
    """
    meter = LoadMeter()
    bandwidth = copy_bandwidth(plan.threads)
    before = meter.cores()
    contenders: list[Contender] = []
    for name, bundle in networks.items():
        for contender in prepare(Subject.load(name, bundle, plan), plan, bandwidth):
            contenders.append(contender)
            progress(f"{name}, {contender.case.method}, N = {contender.case.candidates}, {contender.backend}: agrees")
    if not contenders:
        raise GuidanceError(f"no backend of {', '.join(plan.backends)} has the methods {', '.join(plan.methods)}")
    meter = LoadMeter()
    for one in contenders:
        one.told.clear()
    times = take_turns([(one.act, one.inputs) for one in contenders], plan.schedule, lambda: progress("timing"))
    return {
        "schema": SCHEMA,
        "machine": describe_machine(plan.threads),
        "load": {"before": before, "during": meter.cores()},
        "copy_bandwidth": bandwidth,
        "tolerance": TOLERANCE,
        "plan": asdict(plan),
        "results": results(contenders, times),
    }


def prepare(subject: Subject, plan: TickPlan, bandwidth: float) -> Iterator[Contender]:
    """Yield every backend at every setting of one bundle, checked against the reference and warmed up.

    Args:
        subject: The bundle.
        plan: The settings.
        bandwidth: Of copying [bytes/s].
    """
    manifest = subject.manifest
    drawn = draw_inputs(plan.schedule, manifest.observation_size, max(plan.candidates), manifest.chunk_size)
    acts = _Acts(subject, plan)
    for case in plan.cases():
        inputs = [(observation, noise[: case.candidates]) for observation, noise in drawn]
        chunks = [acts.reference(case)(*given) for given in inputs]
        expected = np.stack([chunk.actions.ravel() for chunk in chunks])
        guided_rows = 0 if case.method == "bc" else case.candidates
        traffic = count_traffic(subject.bundle, manifest, subject.critic, guided_rows).of(count_calls(case, manifest))
        asked = subject.critic if case.method != "bc" or case.candidates > 1 else None
        traffic += encoder_bytes(subject.bundle, manifest, asked)
        facts = {
            "guidance_distance": max(float(np.abs(chunk.actions - chunk.unguided).max()) for chunk in chunks),
            "floor": {"bytes": traffic, "ms": traffic / bandwidth * 1e3},
        }
        for backend, precision in plan.variants(case):
            told: list[Mapping[str, float]] = []
            act = acts.of(backend, precision, case, told)
            contender = Contender(subject.name, case, backend, precision, act, inputs, facts, told)
            yield replace(contender, facts={**facts, "difference": check_agreement(contender, expected)})


class _Acts:
    """Makes what is to be timed of one bundle, loading each backend's models once."""

    def __init__(self, subject: Subject, plan: TickPlan) -> None:
        self._subject, self._plan = subject, plan
        self._policies: dict[tuple[str, Precision], Policy] = {}
        self._networks: Any = None

    def reference(self, case: Case) -> Callable[[Float, Float], Chunk]:
        return self._tick("reference", "fp32", case)

    def of(self, backend: str, precision: Precision, case: Case, told: list[Mapping[str, float]]) -> Act:
        if backend in PEERS:
            return self._peer(backend, case)
        infer = self._tick(backend, precision, case)
        if not self._subject.manifest.cameras:
            return lambda observation, noise: infer(observation, noise).actions.ravel()

        def act(observation: Float, noise: Float) -> Float:
            chunk = infer(observation, noise)
            told.append(chunk.telemetry)
            return chunk.actions.ravel()

        return act

    def _tick(self, backend: str, precision: Precision, case: Case) -> Callable[[Float, Float], Chunk]:
        key = (backend, precision)
        if key not in self._policies:
            self._policies[key] = load_policy(self._subject, backend, precision, self._plan)
        return tick(self._policies[key], self._subject, case)

    def _peer(self, backend: str, case: Case) -> Act:
        from qgf_ros.benchmark.peers import read_networks

        subject = self._subject
        if self._networks is None:
            self._networks = read_networks(subject.bundle, subject.critic)
        given = (self._networks, case, subject.weight_of(case), subject.manifest, subject.critic, self._plan.threads)
        if backend == "jax":
            from qgf_ros.benchmark.peers_jax import jax_peer

            return jax_peer(*given)
        from qgf_ros.benchmark.peers_torch import torch_peer

        return torch_peer(*given, compiled=backend == "torch.compile")


def check_agreement(contender: Contender, expected: Float) -> float:
    """Run a contender on all its inputs, which warms it up, and return its largest difference from the reference.

    Args:
        contender: A backend.
        expected: Actions of the reference [inputs, C].

    Raises:
        GuidanceError: It is more than `TOLERANCE`, so that no times may be compared; of a reduced precision it is
            returned, however large.
    """
    actions = np.stack([np.asarray(contender.act(*given)).ravel() for given in contender.inputs])
    difference = float(np.abs(actions - expected).max())
    # A difference that is no number is no agreement.
    if contender.precision == PRECISIONS[0] and not difference <= TOLERANCE:
        raise GuidanceError(
            f"{contender.backend}: its action differs from the reference by {difference:.1e} ({contender.network}, "
            f"{contender.case.method}, N = {contender.case.candidates}), at most {TOLERANCE:g} is allowed; "
            "it is not the same function, so nothing is compared"
        )
    return difference


def results(contenders: Sequence[Contender], times: Sequence[Times]) -> list[dict[str, Any]]:
    """Return one record for each contender.

    ``latency_ms`` has p50, p90, p99, max and jitter (standard deviation); ``floor`` the bytes of weights, the time they
    take at the machine's copy bandwidth and how many times as long the median is; ``ratios``, for our own backends, the
    median over that of each peer; ``rounds_ms`` every call; ``sight``, where the bundle sees, see `_sight`.
    """
    peers = {(one.network, one.case, one.backend): measured for one, measured in zip(contenders, times)}
    rows = []
    for one, measured in zip(contenders, times):
        summary = measured.summary()
        against = {name: peers.get((one.network, one.case, name)) for name in PEERS if one.backend in BACKENDS}
        rows.append(
            {
                "network": one.network,
                **asdict(one.case),
                "backend": one.backend,
                "precision": one.precision,
                "latency_ms": {key: summary[key] for key in ("p50", "p90", "p99", "max", "jitter")},
                "throughput": summary["throughput"],
                "cores": summary["cores"],
                **one.facts,
                "floor": {**one.facts["floor"], "multiple": summary["p50"] / one.facts["floor"]["ms"]},
                "ratios": {name: ratio(measured, theirs) for name, theirs in against.items() if theirs is not None},
                "rounds_ms": [[1e3 * seconds for seconds in turn] for turn in measured.rounds],
                **({"sight": _sight(one.told, summary["p50"])} if one.told else {}),
            }
        )
    return rows


def _sight(told: Sequence[Mapping[str, float]], p50: float) -> dict[str, float]:
    """Return what decoding and the encoders take: medians [ms] and their share of that of a call, `p50` [ms].

    ``encoder_runs`` is the mean number of times that encoders run for an inference.
    """
    found: dict[str, float] = {}
    for name in ("decode", "encode"):
        (median,) = percentiles([one[f"{name}_ms"] for one in told], (50.0,))
        found |= {f"{name}_ms": median, f"{name}_share": median / p50}
    return {**found, "encoder_runs": float(np.mean([one["encoder_runs"] for one in told]))}
