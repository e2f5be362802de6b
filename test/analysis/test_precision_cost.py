"""The comparison of two precisions, and how it gets into the manifest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgf_ros.analysis.precision_cost import PrecisionComparison, compare_on_data, load_pair, record_evidence, weight_of
from qgf_ros.bundle.locate import MANIFEST_NAME
from qgf_ros.bundle.manifest import Manifest, PrecisionEvidence
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.control.inference import Chunk
from qgf_ros.errors import BundleError, GuidanceError

pytest.importorskip("onnx", reason="the fast path needs onnx")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


class Shifted:
    """A policy whose k-th action is off by k thousandths in every component, and its Q by k."""

    def __init__(self, manifest: Manifest, by: float) -> None:
        self.manifest = manifest
        self._by = by
        self.calls = 0

    def act(self, observations: Any, noise: Any, *settings: Any) -> list[Chunk]:
        self.calls += 1
        actions = np.full((self.manifest.horizon, self.manifest.action_size), self._by * self.calls / 1000, np.float32)
        return [Chunk(actions, actions, {"q": 5.0 + self._by * self.calls, "critic_failed": 0.0})]


def compared(manifest: Manifest, ticks: int) -> PrecisionComparison:
    comparison = PrecisionComparison(Shifted(manifest, 0.0), Shifted(manifest, 1.0))  # type: ignore[arg-type]
    for _ in range(ticks):
        (chunk,) = comparison.act(np.zeros((1, 28), np.float32), np.zeros((1, 1, 25), np.float32), "task1", 0.1)
        assert not chunk.actions.any()
    return comparison


def test_the_figures_are_those_of_the_differences(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    found = compared(manifest, 100).evidence(0.1, "data")
    assert (found.ticks, found.guidance_weight, found.observations) == (100, 0.1, "data")
    assert found.action_error.largest == pytest.approx(0.1)
    assert found.action_error.p99 == pytest.approx(0.099, abs=1e-3)
    for action in manifest.action:
        assert found.action_error.largest_by_component[action.name] == pytest.approx(0.1 * action.scale)
        assert found.action_error.p99_by_component[action.name] == pytest.approx(0.099 * action.scale, rel=0.01)
    assert (found.q_mean, found.q_change_mean, found.q_change_largest) == (5.0, 50.5, 100.0)


def test_a_handful_of_ticks_is_no_evidence(tiny_bundle: Path) -> None:
    with pytest.raises(GuidanceError, match="19 inferences were compared, expected at least 20; run more episodes"):
        compared(load_manifest(tiny_bundle), 19).evidence(0.1, "data")


def test_a_critic_is_measured_where_it_is_at_work(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    assert weight_of(manifest, "task1", None) == 0.1
    assert weight_of(manifest, "task1", 0.3) == 0.3
    with pytest.raises(GuidanceError, match="give a --guidance-weight above 0"):
        weight_of(manifest, "task1", 0.0)


def measured(bundle: Path) -> PrecisionEvidence:
    observations = np.random.default_rng(0).standard_normal((20, 28), dtype=np.float32)
    return compare_on_data(load_pair(bundle, "int8", ["task1"]), "task1", 0.1, observations, 0)


def test_evidence_of_one_critic_joins_that_of_others(bundle: Path) -> None:
    before = load_manifest(bundle)
    found = measured(bundle)
    assert 0.0 < found.action_error.p99 <= found.action_error.largest < 0.1
    record_evidence(bundle, before, "int8", {"task1": found})
    written = record_evidence(bundle, before, "int8", {"task2": found})
    assert written == load_manifest(bundle)
    assert written.precisions["int8"].critics == {"task1": found, "task2": found}
    assert written.model_copy(update={"precisions": {}}) == before

    # What another version or another machine found is replaced.
    foreign = written.precisions["int8"].model_copy(update={"processor": "another"})
    update_manifest(bundle, written.model_copy(update={"precisions": {"int8": foreign}}))
    written = record_evidence(bundle, before, "int8", {"task2": found})
    assert set(written.precisions["int8"].critics) == {"task2"}


def test_evidence_of_files_that_are_others_by_now_is_refused(bundle: Path) -> None:
    manifest, found = load_manifest(bundle), measured(bundle)
    other = manifest.model_copy(update={"files": {**manifest.files, "more": next(iter(manifest.files.values()))}})
    with pytest.raises(BundleError, match="changed while they were measured; measure again"):
        record_evidence(bundle, other, "int8", {"task1": found})
    assert not load_manifest(bundle).precisions


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interruption_while_writing_leaves_the_manifest_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before, found = (bundle / MANIFEST_NAME).read_bytes(), measured(bundle)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((KeyboardInterrupt, BundleError)):
        record_evidence(bundle, load_manifest(bundle), "int8", {"task1": found})
    assert (bundle / MANIFEST_NAME).read_bytes() == before
    assert [path.name for path in bundle.glob(".*")] == []


def test_a_bundle_that_sees_is_compared_on_pictures(tmp_path: Path) -> None:
    from camera_bundles import CAMERAS, write_camera_bundle

    from qgf_ros.learning.data.picture_files import Pictures

    pair = load_pair(write_camera_bundle(tmp_path / "seeing"), "int8", ["near"])
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 256, (20, *one.size, 3), dtype=np.uint8) for name, one in CAMERAS.items()}
    observations = random.standard_normal((20, 2), dtype=np.float32)
    same, shifted = (
        compare_on_data(pair, "near", 0.1, observations, 0, Pictures(images, np.roll(np.arange(20), shift)))
        for shift in (0, 1)
    )
    assert same.ticks == shifted.ticks == 20
    assert same.q_mean != shifted.q_mean, "each observation has its own pictures"


def test_a_critic_with_an_encoder_of_its_own_has_no_other_precision(tmp_path: Path) -> None:
    from camera_bundles import write_camera_bundle

    bundle = write_camera_bundle(tmp_path / "seeing", critics={"near": None, "far": 5})
    with pytest.raises(BundleError, match="critic far of .* has an encoder of its own and so runs over the primitives"):
        load_pair(bundle, "int8", ["near", "far"])
