"""Loads the fast path and proves it: what was composed is held to the primitives, on random inputs.

Reading weights by their names is no proof that a primitive computes what the names say, and a device may compute
something else. So a bundle of any other form, or a critic of it, goes on over the reference path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.text import one_line
from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.conditioning import Critic, VelocityField
from qgf_ros.guidance.protocols import Array
from qgf_ros.guidance.sampler import sample
from qgf_ros.guidance.shaping import QGF
from qgf_ros.runtime.fused import DeviceSampler, FusedSampler
from qgf_ros.runtime.precision import Precision
from qgf_ros.runtime.session import CPU
from qgf_ros.runtime.weights import UnknownFormError

_log = logging.getLogger(__name__)

#: Largest difference from the primitives, relative to 1 + their size, at which the graphs count as the same function.
TOLERANCE = 1e-3
_ROWS, _WEIGHT = 6, 0.1


def load_fused(
    files: Mapping[str, bytes],
    manifest: Manifest,
    velocity: VelocityField,
    critics: Mapping[str, Critic],
    threads: int,
    precision: Precision = "fp32",
    providers: Sequence[str] = (CPU,),
) -> FusedSampler | None:
    """Return the fast path of a bundle, proven equal to its primitives; None, and a log line, if there is none.

    Args:
        files: The bundle's files by path.
        manifest: Its manifest.
        velocity, critics: Its primitives.
        threads: Threads per operator.
        precision: Of the weights, on the CPU. Whatever it is, the graphs are proven in float32.
        providers: Execution providers that have started. Where the first of them does not run the fast path, the CPU
            does, with a warning.
    """
    manifest = _sharing(manifest)
    prove = partial(_prove, manifest=manifest, velocity=velocity, critics=critics)
    if providers[0] != CPU:
        for capture, instead in ((True, "it goes on without replaying it"), (False, "the CPU does")):
            try:
                device = DeviceSampler(files, manifest, threads, providers, capture=capture)
                for seed in range(2):  # the first run captures, the second replays: with other inputs, or it shows
                    prove(device, seed=seed)
                return device
            except Exception as error:  # a provider raises what it likes
                doing = "capture" if capture else "run"
                _log.warning("%s cannot %s the fast path; %s (%s)", providers[0], doing, instead, one_line(str(error)))
    try:
        fused = FusedSampler(files, manifest, threads)
        prove(fused)
        if precision != "fp32":
            proven, fused = fused, FusedSampler(files, manifest, threads, precision)
            for name in manifest.critics:
                if fused.has(name) and not proven.has(name):
                    fused.drop(name)
    except Exception as error:  # whatever a graph holds that is not expected here, the primitives run
        _log.warning("the policy runs over the reference path: %s", error)
        return None
    return fused


def _sharing(manifest: Manifest) -> Manifest:
    """Return the manifest without critics that have an encoder of their own: a composed graph has one observation."""
    if manifest.encoding is None or not manifest.encoding.critics:
        return manifest
    own = manifest.encoding.critics
    _log.warning("critic %s runs over the reference path, because it has an encoder of its own", ", ".join(own))
    return manifest.model_copy(update={"critics": {k: v for k, v in manifest.critics.items() if k not in own}})


def _prove(
    fused: FusedSampler, manifest: Manifest, velocity: VelocityField, critics: Mapping[str, Critic], seed: int = 0
) -> None:
    """Hold what was composed to the primitives, on random inputs; drop critics that differ.

    Raises:
        UnknownFormError: The velocity field differs.
    """
    random = np.random.default_rng(seed)
    s, noise = (
        random.standard_normal((_ROWS, size), dtype=np.float32) for size in (manifest.feature_size, manifest.chunk_size)
    )
    weight = np.full(_ROWS, _WEIGHT, dtype=np.float32)
    steps = fused.proof_steps
    tick, flow = fused.given(s), velocity.given(s)
    plain = tick.plain(noise, steps).action
    if not _equal(plain, sample(flow, None, noise, steps=steps).action):
        raise UnknownFormError("the composed velocity field differs from its primitive")
    for name in filter(fused.has, critics):
        value = critics[name].given(s)
        try:
            expected = sample(flow, value, noise, weight, steps=steps)
            result = tick.guided(name, noise, weight, steps, QGF)
        except GuidanceError as error:  # of this critic alone
            _log.warning("critic %s runs over the reference path: %s", name, error)
            fused.drop(name)
            continue
        pairs = (
            (result.sample.action, expected.action),
            (result.sample.gradient_norm, expected.gradient_norm),
            (result.q, value(expected.action)),
        )
        if not all(_equal(*pair) for pair in pairs):
            _log.warning("critic %s runs over the reference path: its composed graph differs from its primitive", name)
            fused.drop(name)


def _equal(value: Array, expected: Array) -> bool:
    return bool((np.abs(value - expected) <= TOLERANCE * (1.0 + np.abs(expected))).all())
