"""Which precision a robot runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qgf_ros.bundle.manifest import ActionError, Manifest, PrecisionCard, PrecisionEvidence
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import BundleError
from qgf_ros.runtime.precision import RECIPES, choose_precision


def evidence(error: float = 0.01, ratio: float = 0.5) -> PrecisionEvidence:
    return PrecisionEvidence(
        guidance_weight=0.1,
        observations="data",
        ticks=100,
        action_error=ActionError(largest=error, p99=error, largest_by_component={}, p99_by_component={}),
        q_mean=1.0,
        q_change_mean=0.0,
        q_change_largest=0.0,
        latency_ratio=ratio,
    )


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle)


def with_variants(manifest: Manifest, recipe: str = "", **variants: dict[str, PrecisionEvidence]) -> Manifest:
    cards = {
        name: PrecisionCard(recipe=recipe or RECIPES[name], processor="p", runtime="r", critics=critics)  # type: ignore[index]
        for name, critics in variants.items()
    }
    return manifest.model_copy(update={"precisions": cards, "precision_tolerance": 0.02})


def both(**values: Any) -> dict[str, PrecisionEvidence]:
    return {"task1": evidence(**values), "task2": evidence(**values)}


def test_a_manifest_of_before_has_float32_alone(manifest: Manifest) -> None:
    content = manifest.model_dump(mode="json", exclude={"precisions", "precision_tolerance"})
    old = Manifest.model_validate(content)
    assert old == manifest
    assert choose_precision(old, "fp32") == choose_precision(old, "auto") == "fp32"


@pytest.mark.parametrize("name", ["int8", "fp16"])
def test_a_variant_that_nobody_measured_is_refused(manifest: Manifest, name: str) -> None:
    reason = f"bundle tiny has no {name} variant; make and measure one with: qgf quantize tiny --precision {name}"
    with pytest.raises(BundleError, match=reason):
        choose_precision(manifest, name)
    assert choose_precision(with_variants(manifest, **{name: both(error=0.3)}), name) == name


def test_evidence_of_another_recipe_is_none(manifest: Manifest) -> None:
    outdated = with_variants(manifest, recipe="4 bits", int8=both())
    assert choose_precision(outdated, "auto") == "fp32"
    with pytest.raises(BundleError, match="no int8 variant of this version"):
        choose_precision(outdated, "int8")


def test_a_word_that_is_no_precision_is_refused(manifest: Manifest) -> None:
    with pytest.raises(BundleError, match="precision 'int4' was given; it must be fp32, int8, fp16 or auto"):
        choose_precision(manifest, "int4")


@pytest.mark.parametrize(
    ("variants", "chosen"),
    [
        ({"int8": both()}, "int8"),
        ({"int8": both(error=0.02)}, "int8"),
        ({"int8": both(error=0.021)}, "fp32"),
        ({"int8": both(ratio=1.1)}, "fp32"),
        ({"int8": both(), "fp16": both(ratio=0.4)}, "fp16"),
        ({"int8": both(), "fp16": both(error=0.03, ratio=0.4)}, "int8"),
        ({"int8": {"task1": evidence()}}, "fp32"),
        ({"int8": {"task1": evidence(), "task2": evidence(error=0.03)}}, "fp32"),
        ({"int8": {"task1": evidence(), "task2": evidence(ratio=1.2)}}, "fp32"),
        ({"int8": {}}, "fp32"),
    ],
)
def test_auto_takes_the_fastest_within_tolerance_for_every_critic(
    manifest: Manifest, variants: dict[str, dict[str, PrecisionEvidence]], chosen: str
) -> None:
    assert choose_precision(with_variants(manifest, **variants), "auto") == chosen
