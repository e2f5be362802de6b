"""Which parameters the page offers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="parameters of nodes need the ros extra or a ROS 2 installation")

from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.guidance.names import EVERY_METHOD, METHODS
from qgf_ros.nodes.parameters import LIVE
from qgf_sim.dashboard.controls import Choice, Slider, controls_for


def test_the_guidance_weight_comes_first_and_all_change_live(tiny_bundle: Path) -> None:
    names = [control.name for control in controls_for(load_manifest(tiny_bundle))]
    assert names[0] == "guidance_weight"
    assert set(names) <= set(LIVE)


def test_the_page_cannot_enable_motion(tiny_bundle: Path) -> None:
    assert "enable_motion" not in [control.name for control in controls_for(load_manifest(tiny_bundle))]


def test_the_bundle_bounds_what_only_it_can(tiny_bundle: Path) -> None:
    controls = {control.name: control for control in controls_for(load_manifest(tiny_bundle))}
    assert controls["execution_horizon"] == Slider("execution_horizon", 1, 5, 1)
    assert controls["critic"] == Choice("critic", ("task1", "task2"))
    assert {"execution_horizon", "critic"}.isdisjoint(control.name for control in controls_for(None))


def with_graphs(bundle: Path, name: str) -> Manifest:
    """Return the manifest of the bundle as if each critic had one more graph."""
    manifest = load_manifest(bundle)
    record = next(iter(manifest.files.values()))
    own = {f"critics/{critic}/{name}": record for critic in manifest.critics}
    return manifest.model_copy(update={"files": {**manifest.files, **own}})


def test_the_page_offers_the_estimators_that_the_bundle_has(tiny_bundle: Path) -> None:
    plain, robust, fields, unknown = (
        {control.name: control for control in controls_for(manifest)}
        for manifest in (
            load_manifest(tiny_bundle),
            with_graphs(tiny_bundle, "q_robust_grad.onnx"),
            with_graphs(tiny_bundle, "velocity.onnx"),
            None,
        )
    )
    assert plain["estimator"] == Choice("estimator", METHODS)
    assert robust["estimator"] == Choice("estimator", (*METHODS, "robust"))
    assert "estimator" not in fields, "there is one way alone"
    assert unknown["estimator"] == Choice("estimator", EVERY_METHOD)
    assert [one["guidance_weight"].upper for one in (plain, robust, fields, unknown)] == [0.3, 0.3, 15.0, 0.3]
