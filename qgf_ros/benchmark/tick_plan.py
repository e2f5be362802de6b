"""What the benchmark of the tick times: backends, their precisions and the settings they share."""

from __future__ import annotations

from dataclasses import dataclass

from qgf_ros.analysis.compute import CANDIDATES, Case
from qgf_ros.benchmark.latency import Schedule
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import METHODS
from qgf_ros.runtime.precision import Precision

#: `Policy.act` over the primitives, and over the fast path.
BACKENDS = ("reference", "fused")
#: The same sampler in other frameworks.
PEERS = ("torch", "torch.compile", "jax")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")
#: What the fast path has graphs for; with other methods it runs over the primitives.
FUSED_METHODS = ("bc", "qgf")


@dataclass(frozen=True)
class TickPlan:
    """What to time, and how.

    Attributes:
        methods: "bc" and estimators.
        candidates: Values of N.
        backends: Some of `BACKENDS` and `PEERS`.
        precisions: Some of `PRECISIONS`, for the fast path; the other backends have the first alone.
        providers: ONNX Runtime execution providers, in order of preference.
        threads: Threads per operator, of every backend.
        weight: Guidance weight; by default the critic's recommended one, or 1 where there is none.
        critic: Critic that guides; the first by default.
        schedule: Rounds, ticks, inputs and seed.
    """

    methods: tuple[str, ...] = ("qgf",)
    candidates: tuple[int, ...] = CANDIDATES
    backends: tuple[str, ...] = BACKENDS
    precisions: tuple[Precision, ...] = PRECISIONS[:1]
    providers: tuple[str, ...] = ("cpu",)
    threads: int = 2
    weight: float | None = None
    critic: str | None = None
    schedule: Schedule = Schedule()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        for name, known in (
            ("methods", ("bc", *METHODS)),
            ("backends", (*BACKENDS, *PEERS)),
            ("precisions", PRECISIONS),
        ):
            unknown = [value for value in getattr(self, name) if value not in known]
            if unknown or not getattr(self, name):
                given = unknown[0] if unknown else "nothing"
                raise GuidanceError(f"{name}: {given!r} was given; expected some of {', '.join(known)}")
        for name, least in (("candidates", min(self.candidates, default=0)), ("threads", self.threads)):
            if least < 1:
                raise GuidanceError(f"{name}: {least} was given; it must be at least 1")

    def cases(self) -> list[Case]:
        """Return every method with every N."""
        return [Case(method, n) for method in self.methods for n in self.candidates]

    def variants(self, case: Case) -> list[tuple[str, Precision]]:
        """Return every backend that has this case, with each of its precisions."""
        return [
            (backend, precision)
            for backend in self.backends
            if backend != "fused" or case.method in FUSED_METHODS
            for precision in (self.precisions if backend == "fused" else PRECISIONS[:1])
        ]
