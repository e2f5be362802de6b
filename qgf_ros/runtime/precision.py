"""Precisions of the fast path, and which one a robot runs.

A variant of another precision is a recipe, which is applied to the float32 weights when a bundle is loaded: there is no
second set of weights to check or to keep in step. What a bundle holds is the evidence of what the recipe costs it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.errors import BundleError

Precision: TypeAlias = Literal["fp32", "int8", "fp16"]

#: What happens to the weights between hidden layers; evidence for another recipe is no evidence.
RECIPES: dict[Precision, str] = {
    "int8": "weights in 8 bits with a scale for every 128, activations in 8 bits (MatMulNBits, accuracy level 4)",
    "fp16": "weights and activations in 16 bits (MatMul)",
}
CHOICES = ("fp32", *RECIPES, "auto")


def choose_precision(manifest: Manifest, asked: str) -> Precision:
    """Return the precision to run a bundle in.

    Args:
        manifest: Of the bundle.
        asked: One of `CHOICES`; "auto" is the fastest by the bundle's evidence of those whose largest action error is
            within its tolerance for every critic, as one may be switched to at any time.

    Raises:
        BundleError: The bundle has no such variant.
    """
    if asked == "fp32":
        return "fp32"
    usable = [
        name for name, recipe in RECIPES.items() if (card := manifest.precisions.get(name)) and card.recipe == recipe
    ]
    if asked == "auto":
        return min(
            (name for name in usable if _is_good(manifest, name)),
            key=lambda name: _ratio(manifest, name),
            default="fp32",
        )
    for name in usable:
        if name == asked:
            return name
    if asked not in RECIPES:
        raise BundleError(f"precision {asked!r} was given; it must be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
    outdated = " of this version" if asked in manifest.precisions else ""
    raise BundleError(
        f"bundle {manifest.name} has no {asked} variant{outdated}; make and measure one with: "
        f"qgf quantize {manifest.name} --precision {asked}"
    )


def _is_good(manifest: Manifest, name: Precision) -> bool:
    """Return whether a variant is faster than float32 and close to it, with every critic."""
    measured = manifest.precisions[name].critics
    return _ratio(manifest, name) < 1.0 and all(
        critic in measured and measured[critic].action_error.largest <= manifest.precision_tolerance
        for critic in manifest.critics
    )


def _ratio(manifest: Manifest, name: Precision) -> float:
    """Return the time of a tick over that in float32, with the critic it helps least."""
    return max((evidence.latency_ratio for evidence in manifest.precisions[name].critics.values()), default=1.0)
