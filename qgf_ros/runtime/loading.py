"""From the path or name of a bundle to a policy that runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from qgf_ros.bundle.locate import DEFAULT_BUNDLE, locate_bundle
from qgf_ros.bundle.store import load_manifest
from qgf_ros.runtime.policy import Policy
from qgf_ros.runtime.precision import choose_precision
from qgf_ros.runtime.session import CPU


def load_bundle(
    bundle: str | os.PathLike[str] = DEFAULT_BUNDLE,
    *,
    providers: Sequence[str] = (CPU,),
    threads: int = 1,
    precision: str = "fp32",
) -> Policy:
    """Check and load a bundle with all its critics, ready to infer.

    Args:
        bundle: Path of its folder, or a name such as ``cube-single``; see `bundle.locate.locate_bundle`.
        providers: ONNX Runtime execution providers in order of preference.
        threads: Threads per operator.
        precision: One of `runtime.precision.CHOICES`; a variant needs the bundle's evidence.

    Raises:
        BundleError: The bundle is missing or damaged, has no such variant, or ONNX Runtime cannot load it.
    """
    folder = locate_bundle(bundle)
    chosen = choose_precision(load_manifest(folder), precision)
    return Policy.load(folder, providers=providers, threads=threads, precision=chosen)
