"""The encoders of a bundle that sees: images and state in, what velocity field and critics are given out.

An encoder runs once per inference, whatever number of denoising steps, candidates and twins look at what it found. A
bundle without cameras has none, and its observation vector is given as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qgf_ros.bundle.cameras import STATE
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import encoder_file
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.protocols import Array
from qgf_ros.runtime.session import open_session

#: By camera, uint8 [B, h, w, 3], RGB.
Images = Mapping[str, NDArray[np.uint8]]
#: From images and observation vectors [B, S] to features [B, Z].
Encode = Callable[[Images, Array], Array]


class OnnxEncoder:
    """One encoder of a bundle.

    Args:
        files: The bundle's files by path, as `read_bundle` returns them.
        critic: Whose it is; None for the policy's.
        providers: From `choose_providers`.
        threads: Threads per operator.

    Attributes:
        calls: How often it ran.
    """

    def __init__(self, files: Mapping[str, bytes], critic: str | None, providers: Sequence[str], threads: int) -> None:
        path = encoder_file(critic)
        self._session = open_session(files[path], path, providers, threads)
        self.calls = 0
        self._takes_state = STATE in [taken.name for taken in self._session.get_inputs()]

    def __call__(self, images: Images, observations: Array) -> Array:
        """Return the features, float32 [B, Z]."""
        self.calls += 1
        state = {STATE: np.ascontiguousarray(observations)} if self._takes_state else {}
        (z,) = self._session.run(("z",), {**images, **state})
        return np.asarray(z)


class Features:
    """What velocity field and critics are given of one batch; each encoder runs when it is asked first, and only then.

    Args:
        encoders: By critic, the policy's under None.
        observations: float32 [B, S].
        images: By camera.

    Attributes:
        seconds: How long the encoders took so far.
        runs: How often one of them ran so far.
    """

    def __init__(self, encoders: Mapping[str | None, Encode], observations: Array, images: Images | None) -> None:
        self._encoders = encoders
        self._observations = observations
        self._images: Images = images or {}
        self._found: dict[str | None, Array] = {}
        self.seconds = 0.0
        self.runs = 0

    @property
    def policy(self) -> Array:
        """What the velocity field is given, float32 [B, Z]; raises GuidanceError if it is not finite."""
        return self._of(None)

    def of(self, critic: str) -> Array:
        """Return what a critic is given, float32 [B, its Z]; raises GuidanceError if it is not finite."""
        return self._of(critic if critic in self._encoders else None)

    def _of(self, encoder: str | None) -> Array:
        if encoder not in self._found:
            began = time.perf_counter()
            z = self._encoders[encoder](self._images, self._observations)
            self.seconds += time.perf_counter() - began
            self.runs += 1
            if not np.isfinite(z).all():
                raise GuidanceError(
                    f"{encoder_file(encoder)} gave a value that is not finite; check the observation and the bundle"
                )
            self._found[encoder] = z
        return self._found[encoder]


def load_encoders(
    manifest: Manifest, files: Mapping[str, bytes], providers: Sequence[str], threads: int
) -> dict[str | None, Encode]:
    """Load the encoders of a bundle by critic, the policy's under None; none for a bundle without cameras.

    Raises:
        BundleError: ONNX Runtime cannot load one.
    """
    if manifest.encoding is None:
        return {}
    return {critic: OnnxEncoder(files, critic, providers, threads) for critic in (None, *manifest.encoding.critics)}


def dark(manifest: Manifest) -> Images:
    """Return a black image of each camera, as a batch of one."""
    return {name: np.zeros((1, *camera.size, 3), dtype=np.uint8) for name, camera in manifest.cameras.items()}


def check_images(manifest: Manifest, images: Images | None, batch: int) -> None:
    """Raise GuidanceError where images are not those of a bundle's cameras, `batch` of each."""
    images = images or {}
    if images.keys() != manifest.cameras.keys():
        raise GuidanceError(
            f"images of {', '.join(images) or 'no camera'} were given; bundle {manifest.name} sees with "
            f"{', '.join(manifest.cameras) or 'none'}"
        )
    for name, camera in manifest.cameras.items():
        expected, given = (batch, *camera.size, 3), images[name]
        if given.shape != expected or given.dtype != np.uint8:
            raise GuidanceError(
                f"images of camera {name} of shape {given.shape} and {given.dtype} were given, expected {expected} and uint8"
            )
