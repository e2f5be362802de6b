"""Success over parameters: what is counted, points that belong together, and what larger networks win, paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the figure needs the analysis extra")
pytest.importorskip("onnx", reason="parameters are counted from the graphs")

from qgf_ros.analysis.model_sizes import SizedBundle, _series, check_apart, layers_of, parameter_count, sizes_report
from qgf_ros.analysis.size_figure import draw_sizes
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import SimulationError

ROOT = Path(__file__).resolve().parents[2]
SMALL = SizedBundle("small", "a", "iql_flow", "3x128", 40_000, 70_000, 0.9, 100)


def record(fingerprint: str, method: str, task: int, solved: int, seed: int = 0) -> dict[str, Any]:
    won = [number < solved for number in range(20)]
    reporting = {"successes": solved, "episodes": 20, "outcomes": {"success": won}}
    about = {"fingerprint": fingerprint, "training_seed": seed, "weight": 0.1}
    return {**about, "task": task, "method": method, "reporting": reporting}


def test_parameters_are_those_of_the_layers() -> None:
    # Of models/scene: S 40, H A 25 and 16 waves; four layers of 512, LayerNorm in three, and three of 256, LayerNorm in all.
    velocity = 81 * 512 + 3 * 512 * 512 + 512 * 25 + 4 * 512 + 25 + 3 * 2 * 512
    critic = 65 * 256 + 2 * 256 * 256 + 256 + 3 * 256 + 1 + 3 * 2 * 256
    assert parameter_count(ROOT / "models/scene/velocity.onnx") == velocity
    assert parameter_count(ROOT / "models/scene/critics/task1/q_grad.onnx") == 2 * critic
    manifest = load_manifest(ROOT / "models/scene")
    assert layers_of(manifest) == "4x512, critics 3x256"
    for training, said in (
        ({"config": {"hidden": [64, 32]}}, "64-32"),
        ({"config": {"hidden": [64, 64], "critic_hidden": [32]}}, "2x64, critics 1x32"),
        ({"config": {"hidden": [64, 64]}, "critics_from": {"hidden": [32]}}, "2x64, critics 1x32"),
        ({"config": {"hidden": [64, 64]}, "critics_from": {"hidden": [64, 64]}}, "2x64"),
        ({}, ""),
    ):
        assert layers_of(manifest.model_copy(update={"training": training})) == said
    imitating = {"algorithm": "qam", "policy": "one behaviour-cloned velocity field for every critic"}
    assert [
        _series(training) for training in (imitating, {"algorithm": "qam"}, {**imitating, "algorithm": "iql_flow"}, {})
    ] == [
        "qam flow",
        "qam",
        "iql_flow",
        "iql_flow",
    ]
    found = SizedBundle.read(ROOT / "models/scene", "x")
    assert (found.series, found.velocity, found.held_out) == ("iql_flow", velocity, None)


def test_a_point_is_a_method_of_a_size_over_all_its_bundles_and_tasks() -> None:
    large = replace(SMALL, name="large", fingerprint="b", hidden="4x512", velocity=900_000, critic=10**6, held_out=0.5)
    other = replace(SMALL, name="other", fingerprint="c", series="edp", held_out=None)
    second = replace(other, name="second", fingerprint="d")
    records = [record(which, "qgf", task, solved) for which, solved in (("a", 5), ("b", 15)) for task in (1, 2)]
    records += [record("c", "bc", 1, 10), record("d", "bc", 2, 12)]
    points = sizes_report([large, SMALL, other, second], records)
    assert [(point["series"], point["method"], point["hidden"]) for point in points] == [
        ("edp", "bc", "3x128"),
        ("iql_flow", "qgf", "3x128"),
        ("iql_flow", "qgf", "4x512"),
    ]
    edp, small, big = points
    assert (edp["successes"], edp["episodes"], edp["tasks"], edp["bundles"]) == (22, 40, [1, 2], ["other", "second"])
    assert (edp["held_out_loss"], small["held_out_loss"], big["held_out_loss"]) == (None, 0.9, 0.5)
    assert small["versus_smallest"] is None
    assert big["versus_smallest"]["difference"] == pytest.approx(0.5)
    assert big["versus_smallest"]["ci95"][0] > 0.0
    _, losses = draw_sizes({"points": points}).axes
    assert [list(line.get_ydata()) for line in losses.lines] == [[0.9, 0.5]]
    assert [label.get_text() for label in losses.get_xticklabels()] == ["70k", "1000k"]
    assert len(draw_sizes({"points": [edp]}).axes) == 1  # there is no loss to draw


def test_two_bundles_at_one_place_are_refused() -> None:
    longer = replace(SMALL, name="longer", fingerprint="b", updates=200)
    large = replace(SMALL, name="large", hidden="4x512", velocity=900_000)
    check_apart([(SMALL, 0, (1, 2)), (longer, 1, (1, 2)), (large, 0, (1, 2)), (replace(longer, series="edp"), 0, (1,))])
    check_apart([(SMALL, 0, (1,)), (longer, 0, (2,))])
    with pytest.raises(
        SimulationError, match="small and longer are both iql_flow of one size with training seed 0, for task 2"
    ):
        check_apart([(SMALL, 0, (1, 2)), (longer, 0, (2,))])


def test_sizes_of_other_tasks_or_training_seeds_are_not_compared() -> None:
    large = replace(SMALL, name="large", fingerprint="b", velocity=900_000)
    for other in (record("b", "qgf", 2, 9), record("b", "qgf", 1, 9, seed=1)):
        points = sizes_report([SMALL, large], [record("a", "qgf", 1, 3), other])
        assert [point["versus_smallest"] for point in points] == [None, None]
