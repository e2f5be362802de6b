"""What an inference of an action chunk takes, and what comes out of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.guidance.prefix import Prefix
from qgf_ros.guidance.shaping import Guidance

if TYPE_CHECKING:
    from qgf_ros.control.vision.newest_pictures import Sight


@dataclass(frozen=True)
class Chunk:
    """One inferred action chunk.

    Attributes:
        actions: float32 [H, A], in [-1, 1].
        unguided: What the same noise becomes without guidance, float32 [H, A], in [-1, 1].
        telemetry: Numbers about the inference, by name (see `runtime.policy`).
    """

    actions: NDArray[np.float32]
    unguided: NDArray[np.float32]
    telemetry: Mapping[str, float]


class ChunkPolicy(Protocol):
    """What a controller needs of a policy; `runtime.policy.Policy` is one."""

    manifest: Manifest

    def act(
        self,
        observations: NDArray[np.float32],
        noise: NDArray[np.float32],
        critic: str,
        guidance_weight: float,
        guidance: Guidance,
        prefix: Prefix | None = None,
        images: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> list[Chunk]:
        """Return a chunk for each of B observations [B, S], their noise [B, N, C], prefixes [B, C] and images [B, h, w, 3].

        Prefixes and images are given only where there are any.
        """
        ...


@dataclass(frozen=True)
class ChunkRequest:
    """Everything one chunk is inferred from.

    Attributes:
        stamp: Of the observation [ns].
        observation: float32 [S].
        noise: float32 [N, C].
        critic: Name of the critic.
        guidance_weight: 1/beta.
        guidance: Gradient estimator and its options.
        prefix: Actions that the chunk has to agree with, target and weight [C]; None for a free chunk.
        sight: What the cameras see; None without any.
    """

    stamp: int
    observation: NDArray[np.float32]
    noise: NDArray[np.float32]
    critic: str
    guidance_weight: float
    guidance: Guidance
    prefix: Prefix | None = None
    sight: Sight | None = None


def infer(policy: ChunkPolicy, requests: Sequence[ChunkRequest]) -> list[Chunk]:
    """Infer the chunks of requests that differ in observation, sight, noise and prefix alone, in one batch.

    What the cameras see is decoded here, on the thread that infers, and counts as inference.

    Raises:
        GuidanceError: Inference failed.
        ObservationError: A picture cannot be decoded, or is none that the contract allows.
    """
    first = requests[0]
    if len(requests) == 1:  # a robot's tick, which need not be copied
        observations, noise = first.observation[None], first.noise[None]
    else:
        observations = np.stack([request.observation for request in requests])
        noise = np.stack([request.noise for request in requests])
    settings = (first.critic, first.guidance_weight, first.guidance)
    sights = [request.sight for request in requests if request.sight is not None]
    options: dict[str, Any] = {"images": _images(sights)} if sights else {}
    if any(request.prefix is not None for request in requests):
        free = np.zeros(noise.shape[2], dtype=np.float32)
        prefixes = [request.prefix or Prefix(free, free) for request in requests]
        prefix = Prefix(np.stack([each.target for each in prefixes]), np.stack([each.weight for each in prefixes]))
        options["prefix"] = prefix
    chunks = policy.act(observations, noise, *settings, **options)
    if not sights:
        return chunks
    decoding = 1e3 * sum(sight.decode_seconds for sight in sights)
    return [_with_sight(chunk, sight, decoding) for chunk, sight in zip(chunks, sights)]


def _images(sights: Sequence[Sight]) -> dict[str, NDArray[np.uint8]]:
    """Return what each camera sees in a batch of instants, uint8 [B, h, w, 3]; of one, nothing is copied."""
    if len(sights) == 1:
        return {name: pixels[None] for name, pixels in sights[0].images().items()}
    found = [sight.images() for sight in sights]
    return {name: np.stack([images[name] for images in found]) for name in found[0]}


def _with_sight(chunk: Chunk, sight: Sight, decoding: float) -> Chunk:
    """Return a chunk whose telemetry says how old the oldest picture was and how long decoding took [ms], of its latency, too."""
    said = {"decode_ms": decoding, "frame_age_ms": sight.oldest * 1e3}
    if "latency_ms" in chunk.telemetry:
        said["latency_ms"] = chunk.telemetry["latency_ms"] + decoding
    return replace(chunk, telemetry={**chunk.telemetry, **said})


class Inference:
    """Infers one chunk after the other, whichever threads ask.

    Args:
        policy: Infers them.

    Attributes:
        seconds: How long the newest took [s of wall time], with the wait for one of before that was still under way.
    """

    def __init__(self, policy: ChunkPolicy) -> None:
        self._policy = policy
        self._one_at_a_time = threading.Lock()
        self.seconds = 0.0

    def __call__(self, request: ChunkRequest) -> Chunk:
        """Return the chunk of a request; raises GuidanceError if its inference failed."""
        began = time.perf_counter()
        with self._one_at_a_time:  # an abandoned inference may still be under way, and waiting for it counts
            (chunk,) = infer(self._policy, [request])
            self.seconds = time.perf_counter() - began
            return chunk
