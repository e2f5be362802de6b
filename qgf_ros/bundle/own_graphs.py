"""Graphs that a bundle may have beside its primitives, one for each critic, and the estimators that they make possible.

Whether they are there says how a bundle is guided: whoever runs it need not know how it was trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgf_ros.errors import GuidanceError
from qgf_ros.guidance.names import CLASSIFIER_FREE, METHODS, ROBUST

if TYPE_CHECKING:
    from qgf_ros.bundle.manifest import Manifest

#: The file of each critic's folder that an estimator needs.
_FILES = {ROBUST: "q_robust_grad.onnx", CLASSIFIER_FREE: "velocity.onnx"}
#: Guidance weights of use where they scale a gradient: nine octaves around the published sweep, 0.004 to 0.12.
GRADIENT_WEIGHTS = tuple(0.0025 * 2**octave for octave in range(10))
#: Guidance weights of use where they scale the difference of two velocity fields: the published ones.
DIFFERENCE_WEIGHTS = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0)
#: What stands for the bundle's own way.
_DEFAULT = METHODS[0]


def own_file(critic: str, estimator: str) -> str:
    """Return the path, inside a bundle, of the graph of a critic that an estimator needs."""
    return f"critics/{critic}/{_FILES[estimator]}"


def own_estimators(manifest: Manifest) -> tuple[str, ...]:
    """Return the estimators for which every critic of a bundle has the graph."""
    return tuple(
        e for e in _FILES if manifest.critics and all(own_file(c, e) in manifest.files for c in manifest.critics)
    )


def guided_by_difference(manifest: Manifest) -> bool:
    """Return whether the guidance weight of a bundle scales the difference of two velocity fields."""
    return CLASSIFIER_FREE in own_estimators(manifest)


def usual_weights(manifest: Manifest) -> tuple[float, ...]:
    """Return the guidance weights that are of use with a bundle of which nothing else is known."""
    return DIFFERENCE_WEIGHTS if guided_by_difference(manifest) else GRADIENT_WEIGHTS


def estimators_of(manifest: Manifest) -> tuple[str, ...]:
    """Return every estimator that a bundle can be guided by."""
    return (CLASSIFIER_FREE,) if guided_by_difference(manifest) else (*METHODS, *own_estimators(manifest))


def estimator_meant(manifest: Manifest, asked: str) -> str:
    """Return the estimator that a bundle is run with where this one is asked for.

    Where the critics chose data and are climbed by nothing, the difference of two velocity fields guides: `qgf`, which is
    the default, means that there.
    """
    return CLASSIFIER_FREE if asked == _DEFAULT and guided_by_difference(manifest) else asked


def check_estimator(manifest: Manifest, asked: str) -> None:
    """Raise GuidanceError unless a bundle can be guided so."""
    known = estimators_of(manifest)
    if guided_by_difference(manifest) and estimator_meant(manifest, asked) != CLASSIFIER_FREE:
        raise GuidanceError(
            f"estimator {asked} was given; bundle {manifest.name} is guided by the difference of two velocity fields, to "
            f"which a guidance_weight of 1 or more belongs: leave the estimator at its default, or set {CLASSIFIER_FREE}"
        )
    if asked in _FILES and asked not in known:
        raise GuidanceError(
            f"estimator {asked} was given; bundle {manifest.name} has no {_FILES[asked]} for it, choose one of "
            f"{', '.join(known)}"
        )
