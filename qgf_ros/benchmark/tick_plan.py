"""What the benchmark of the tick times: bundles, backends, their precisions and the settings they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from qgf_ros.analysis.compute import CANDIDATES, Case
from qgf_ros.benchmark.latency import Float, Schedule
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.inference import Chunk, ChunkRequest, infer
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import METHODS
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.precision import Precision
from qgf_ros.runtime.session import CPU, full_name

if TYPE_CHECKING:
    from qgf_ros.control.vision.synthetic_pictures import SyntheticSights

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


@dataclass(frozen=True)
class Subject:
    """A bundle to be timed, and what guides it."""

    name: str
    bundle: Path
    manifest: Manifest
    critic: str
    weight: float

    @classmethod
    def load(cls, name: str, bundle: Path, plan: TickPlan) -> Subject:
        """Check a bundle and choose critic and weight.

        Raises:
            BundleError: The bundle is missing or damaged.
            GuidanceError: It has no such critic, or it sees and a peer is to be timed.
        """
        manifest = load_manifest(bundle)
        critic = next(iter(manifest.critics), None) if plan.critic is None else plan.critic
        if critic is None or critic not in manifest.critics:
            raise GuidanceError(
                f"critic {critic!r} was given; bundle {name} has {', '.join(manifest.critics) or 'none'}"
            )
        if manifest.cameras and (peers := [name for name in plan.backends if name in PEERS]):
            raise GuidanceError(
                f"bundle {name} sees, and {', '.join(peers)} would be timed without its encoders; leave peers out"
            )
        weight = plan.weight if plan.weight is not None else manifest.critics[critic].recommended_weight or 1.0
        return cls(name, bundle, manifest, critic, weight)

    def weight_of(self, case: Case) -> float:
        """Return the guidance weight of a case; 0 is what makes it behaviour cloning."""
        return 0.0 if case.method == "bc" else self.weight


def load_policy(subject: Subject, backend: str, precision: Precision, plan: TickPlan) -> Policy:
    """Load a bundle on one of `BACKENDS`, with one of `PRECISIONS`.

    Raises:
        GuidanceError: The bundle has no fast path, and would run over the reference path instead; or the first provider
            has not started, and the CPU would be timed instead.
    """
    fused = backend == "fused"
    policy = Policy.load(
        subject.bundle, providers=plan.providers, threads=plan.threads, fused=fused, precision=precision
    )
    if fused and not policy.has_fast_path(subject.critic):
        raise GuidanceError(
            f"{subject.name}: there is no fast path for this bundle and providers {', '.join(plan.providers)}, which a "
            "warning above explains; use --backends reference"
        )
    asked, runs = full_name(plan.providers[0]), policy.backend(subject.critic, "qgf")
    if asked != CPU and not runs.endswith(asked):
        raise GuidanceError(
            f"{subject.name}: provider {asked} was given, but {runs} runs, which a warning above explains; use --providers cpu"
        )
    return policy


def tick(policy: Policy, subject: Subject, case: Case) -> Callable[[Float, Float], Chunk]:
    """Return what the node does at a tick: (observation [1, S], noise [N, C]) -> chunk.

    Raises:
        GuidanceError: When called, and the critic fails: plain BC would look fast.
    """
    settings = (subject.critic, subject.weight_of(case), case.guidance)
    sights = sights_of(subject.manifest)

    def act(observation: Float, noise: Float) -> Chunk:
        if sights is None:
            (chunk,) = policy.act(observation, noise[None], *settings)
        else:
            sight = sights.sight(0, crc32(noise.tobytes()))  # of an input always the same, whoever is asked
            (chunk,) = infer(policy, [ChunkRequest(0, observation[0], noise, *settings, sight=sight)])
        if chunk.telemetry["critic_failed"]:
            raise GuidanceError(f"{subject.name}: critic {subject.critic} failed; see the message above")
        return chunk

    return act


def sights_of(manifest: Manifest) -> SyntheticSights | None:
    """Return what the cameras of a bundle see, always the same; None without cameras."""
    if not manifest.cameras:
        return None
    from qgf_ros.control.vision.synthetic_pictures import SyntheticSights  # here, because it needs OpenCV

    return SyntheticSights(manifest.cameras, seed=0)
