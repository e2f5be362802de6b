"""What another precision costs: two policies of one bundle, asked the same at every tick."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import ActionError, Manifest, PairedSuccess, PrecisionCard, PrecisionEvidence
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.control.inference import Chunk
from qgf_ros.errors import BundleError, GuidanceError
from qgf_ros.learning.data.picture_files import Pictures
from qgf_ros.reports.machine import describe_machine
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.precision import RECIPES, Precision
from qgf_ros.runtime.session import RUNTIME_VERSION

Float = NDArray[np.float32]

#: Fewest observations of a comparison; before them the 99th percentile says nothing.
FEWEST_TICKS = 20


class PrecisionComparison:
    """A policy in float32 that has a variant infer the same, and notes in what it differs and how long it takes.

    It is the `ChunkPolicy` of a closed loop in float32, of one episode at a time.

    Args:
        reference: The bundle in float32.
        variant: The same bundle in another precision.
    """

    def __init__(self, reference: Policy, variant: Policy) -> None:
        self.manifest = reference.manifest
        self._policies = (reference, variant)
        self._errors: list[Float] = []
        self._values: list[tuple[float, ...]] = []
        self._times: list[tuple[float, ...]] = []

    def act(
        self, observations: Float, noise: Float, critic: str, guidance_weight: float, *options: Any, **images: Any
    ) -> list[Chunk]:
        """See `Policy.act`; both run, the first to run taking turns."""
        chunks: list[list[Chunk]] = [[], []]
        times = [0.0, 0.0]
        turn = len(self._times) % 2
        for which in (turn, 1 - turn):
            start = time.thread_time()  # which nobody else's work on the machine changes
            chunks[which] = self._policies[which].act(observations, noise, critic, guidance_weight, *options, **images)
            times[which] = time.thread_time() - start
        for reference, variant in zip(*chunks):
            if variant.telemetry["critic_failed"]:
                raise GuidanceError(f"critic {critic} failed in the variant; it cannot be used")
            self._errors.append(np.abs(variant.actions - reference.actions))
            self._values.append((reference.telemetry["q"], variant.telemetry["q"]))
        self._times.append(tuple(times))
        return chunks[0]

    def evidence(
        self, weight: float, observations: Literal["rollouts", "data"], closed_loop: PairedSuccess | None = None
    ) -> PrecisionEvidence:
        """Return what was noted since the start.

        Args:
            weight: Guidance weight, above 0, of all ticks.
            observations: Where they came from.
            closed_loop: Success in both precisions.

        Raises:
            GuidanceError: There were fewer than `FEWEST_TICKS`.
        """
        if len(self._errors) < FEWEST_TICKS:
            raise GuidanceError(
                f"{len(self._errors)} inferences were compared, expected at least {FEWEST_TICKS}; run more episodes"
            )
        reference, variant = np.array(self._values).T
        slow, fast = np.median(self._times, axis=0)
        return PrecisionEvidence(
            guidance_weight=weight,
            observations=observations,
            ticks=len(self._errors),
            action_error=_action_error(np.concatenate(self._errors), self.manifest),
            q_mean=reference.mean(),
            q_change_mean=(variant - reference).mean(),
            q_change_largest=np.abs(variant - reference).max(),
            latency_ratio=fast / slow,
            closed_loop=closed_loop,
        )


def _action_error(errors: Float, manifest: Manifest) -> ActionError:
    """Return the statistics of differences [K, A], normalised."""
    largest, p99 = errors.max(axis=0), np.percentile(errors, 99.0, axis=0)

    def by_component(values: NDArray[Any]) -> dict[str, float]:
        return {action.name: action.scale * float(value) for action, value in zip(manifest.action, values)}

    return ActionError(
        largest=largest.max(),
        p99=np.percentile(errors, 99.0),
        largest_by_component=by_component(largest),
        p99_by_component=by_component(p99),
    )


def load_pair(bundle: Path, precision: Precision, critics: Sequence[str]) -> tuple[Policy, Policy]:
    """Return a bundle in float32 and in another precision, warm, on one thread, as the node runs it by default.

    Raises:
        BundleError: The bundle is damaged, or a critic does not run on the fast path, which alone has other precisions.
    """
    encoding = load_manifest(bundle).encoding
    for critic in critics:
        if encoding is not None and critic in encoding.critics:
            raise BundleError(
                f"critic {critic} of {bundle} has an encoder of its own and so runs over the primitives, which are in fp32 alone; "
                "measure the critics without one, with --tasks"
            )
    reference, variant = (Policy.load(bundle, precision=name) for name in ("fp32", precision))
    for critic in critics:
        if not variant.has_fast_path(critic):
            raise BundleError(
                f"critic {critic} of {bundle} runs over the primitives, which are in fp32 alone (the log says why); "
                "export a velocity field with this version; actors of another form have no variant"
            )
    reference.warm_up()
    variant.warm_up()
    return reference, variant


def weight_of(manifest: Manifest, critic: str, weight: float | None) -> float:
    """Return the weight to measure a critic at: the one given, or else the recommended one.

    Raises:
        GuidanceError: It is not above 0, so that the critic would not run.
    """
    chosen = manifest.critics[critic].recommended_weight if weight is None else weight
    if not chosen > 0.0:
        raise GuidanceError(
            f"critic {critic} would be measured at guidance weight {chosen:g}; give a --guidance-weight above 0, so that it runs"
        )
    return chosen


def compare_on_data(
    pair: tuple[Policy, Policy],
    critic: str,
    weight: float,
    observations: Float,
    seed: int,
    pictures: Pictures | None = None,
) -> PrecisionEvidence:
    """Compare two policies on recorded observations, float32 [K, S], and on the pictures of these rows, where they see.

    Raises:
        GuidanceError: There are too few, or they have another size than the bundle's.
    """
    comparison = PrecisionComparison(*pair)
    random = np.random.default_rng(seed)
    for i, s in enumerate(observations):
        images = {} if pictures is None else {"images": pictures.take(np.array([i]))}
        noise = random.standard_normal((1, 1, comparison.manifest.chunk_size), dtype=np.float32)
        comparison.act(s[None], noise, critic, weight, **images)
    return comparison.evidence(weight, "data")


def record_evidence(
    bundle: Path, measured: Manifest, precision: Precision, evidence: dict[str, PrecisionEvidence]
) -> Manifest:
    """Add evidence by critic to the manifest of a bundle, beside what it already has of the same recipe and machine.

    Args:
        bundle: Folder of the bundle.
        measured: Its manifest as it was when the measurement began.
        precision: Of the variant.
        evidence: Of each critic that was measured.

    Returns:
        The manifest as written.

    Raises:
        BundleError: The bundle's files are others by now.
    """
    manifest = load_manifest(bundle)  # again: something else may have been written into it meanwhile
    if manifest.files != measured.files:
        raise BundleError(f"the files of {bundle} changed while they were measured; measure again")
    card = PrecisionCard(
        recipe=RECIPES[precision],
        processor=str(describe_machine(1)["processor"]),
        runtime=f"onnxruntime {RUNTIME_VERSION}",
    )
    before = manifest.precisions.get(precision)
    known = before.critics if before is not None and before.model_copy(update={"critics": {}}) == card else {}
    card = card.model_copy(update={"critics": {**known, **evidence}})
    manifest = manifest.model_copy(update={"precisions": {**manifest.precisions, precision: card}})
    update_manifest(bundle, manifest)
    return manifest
