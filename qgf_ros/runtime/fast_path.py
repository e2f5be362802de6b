"""The fast path of a bundle, where the package onnx is there to compose it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.launching.extras import missing

if TYPE_CHECKING:
    from qgf_ros.runtime.fused import FusedSampler
    from qgf_ros.runtime.precision import Precision

_log = logging.getLogger(__name__)


def load_fast_path(
    files: Mapping[str, bytes],
    manifest: Manifest,
    velocity: VelocityField,
    critics: Mapping[str, Critic],
    threads: int,
    precision: Precision,
    providers: Sequence[str],
) -> FusedSampler | None:
    """Return the fast path as `runtime.proof.load_fused` does; None, and a log line, without the package onnx."""
    try:
        from qgf_ros.runtime.proof import load_fused  # here, because it needs the package onnx
    except ImportError as error:
        _log.warning("the policy runs over the reference path, because %s", missing(error) or error)
        return None
    return load_fused(files, manifest, velocity, critics, threads, precision, providers)
