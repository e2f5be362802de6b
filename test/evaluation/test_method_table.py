"""The file of a comparison: added to, never mixed, and the same however it came about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.bundle_families import TrainedBundle
from qgf_ros.evaluation.method_table import MethodTable

SETTINGS = {"episodes": 4, "reference": "qgf"}
ORDER = ["bc", "qgf"]


@pytest.fixture
def bundle(tiny_bundle: Path) -> TrainedBundle:
    return TrainedBundle("cube-single", 0, tiny_bundle, load_manifest(tiny_bundle))


def other(bundle: TrainedBundle, seed: int, family: str = "cube-single") -> TrainedBundle:
    """Return a bundle of other networks."""
    manifest = bundle.manifest.model_copy(update={"name": f"tiny-{family}-{seed}", "parity": {"seed": float(seed)}})
    return TrainedBundle(family, seed, bundle.path, manifest)


def records(bundle: TrainedBundle, method: str = "qgf", tasks: tuple[int, ...] = (1, 2)) -> list[dict[str, Any]]:
    return [
        {
            "family": bundle.family,
            "training_seed": bundle.training_seed,
            "fingerprint": bundle.fingerprint,
            "task": task,
            "method": method,
            "weight": 0.1,
            "early": [],
            "reporting": {"mean_length": 1 / 3, "outcomes": {"success": [True, False, method == "qgf", task == 1]}},
        }
        for task in tasks
    ]


def opened(path: Path, *bundles: TrainedBundle, **settings: Any) -> MethodTable:
    table = MethodTable(path, {**SETTINGS, **settings}, ORDER)
    table.expect(bundles)
    return table


def places(table: dict[str, Any]) -> list[tuple[str, int, int, str]]:
    return [(one["family"], one["training_seed"], one["task"], one["method"]) for one in table["records"]]


def test_parts_make_the_same_table_as_the_whole(bundle: TrainedBundle, tmp_path: Path) -> None:
    second = other(bundle, 1)
    whole = opened(tmp_path / "whole.json", bundle, second)
    whole.add([record for name in ORDER for one in (bundle, second) for record in records(one, name)])
    path = tmp_path / "parts.json"
    for one, name in ((second, "qgf"), (bundle, "bc"), (second, "bc"), (bundle, "qgf")):
        part = opened(path, bundle, second)
        part.add(records(one, name))
        part.write({}, {})
    table = whole.write({}, {})
    assert json.loads(path.read_text()) == json.loads((tmp_path / "whole.json").read_text()) == table
    assert places(table) == [("cube-single", seed, task, name) for seed in (0, 1) for task in (1, 2) for name in ORDER]


def test_what_was_measured_of_a_bundle_goes_with_it_under_another_name(bundle: TrainedBundle, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    table = opened(path, bundle)
    table.add(records(bundle))
    table.add_costs(bundle, [{"method": "qgf", "gflops": 1.0, "time_ms": None}])
    table.write({}, {})
    renamed, beside = replace(bundle, family="mine", training_seed=3), other(bundle, 0)
    table = opened(path, renamed, beside)
    table.add(records(beside))
    found = table.write({}, {})
    assert places(found) == [
        (name, seed, task, "qgf") for name, seed in (("mine", 3), ("cube-single", 0)) for task in (1, 2)
    ]
    assert [(cost["family"], cost["training_seed"]) for cost in found["costs"]] == [("mine", 3)]
    assert [part["family"] for part in found["families"]] == ["mine", "cube-single"]


def test_the_cost_of_a_method_is_asked_for_once(bundle: TrainedBundle, tmp_path: Path) -> None:
    table = opened(tmp_path / "t.json", bundle)
    table.add([*records(bundle, "bc"), *records(bundle)])
    assert table.without_cost(bundle, timed=False) == ORDER
    times = {"p50": 1.0, "p99": 2.0}
    table.add_costs(bundle, [{"method": "bc", "gflops": 1.0, "time_ms": None}])
    table.add_costs(bundle, [{"method": "qgf", "gflops": 2.0, "time_ms": times}])
    assert table.without_cost(bundle, timed=False) == []
    assert table.without_cost(bundle, timed=True) == ["bc"]
    assert table.without_cost(other(bundle, 1), timed=True) == []
    rows = table.write({}, {})["overall"]["methods"]
    assert [row["cost"] for row in rows] == [
        {"gflops": 1.0, "time_ms": None, "bundles": 1},
        {"gflops": 2.0, "time_ms": 1.0, "bundles": 1},
    ]


def test_numbers_are_those_that_will_be_read_again(bundle: TrainedBundle, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    table = opened(path, bundle)
    table.add(records(bundle))
    written = table.write({"command": "qgf …"}, {"times": "…"})
    assert written == json.loads(path.read_text())
    assert (written["command"], written["times"], written["settings"]) == ("qgf …", "…", SETTINGS)
    assert opened(path, bundle).write({"command": "qgf …"}, {"times": "…"}) == written


def test_other_settings_and_another_bundle_in_the_same_place_are_refused(bundle: TrainedBundle, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    table = opened(path, bundle)
    table.add(records(bundle))
    table.write({}, {})
    with pytest.raises(SimulationError, match="of other settings; remove it or choose another --out"):
        opened(path, bundle, episodes=5)
    with pytest.raises(SimulationError, match="another bundle as cube-single, training seed 0; remove it or choose"):
        opened(path, other(bundle, 0))
    opened(path, other(bundle, 1))


def test_one_family_has_a_method_with_one_choice_of_weights(bundle: TrainedBundle, tmp_path: Path) -> None:
    path, second = tmp_path / "t.json", other(bundle, 1)
    table = opened(path, bundle)
    table.add([{**record, "weights": [0.1, 1.0]} for record in records(bundle)])
    table.write({}, {})
    mine, theirs = ({(one.fingerprint, task, "qgf"): [0.1] for task in (1, 2)} for one in (bundle, second))
    table = opened(path, bundle, second)
    told = "holds results of cube-single with qgf chosen among 0.1, 1, not 0.1; give the same weights, or choose another --out"
    for some in (theirs, dict(list(mine.items())[:1])):  # another training seed, and another task
        with pytest.raises(SimulationError, match=told):
            table.expect_weights(some)
    table.expect_weights({**mine, **theirs})  # all of them anew
    table.expect_weights({key: [0.1, 1.0] for key in theirs})
    elsewhere = other(bundle, 0, "scene")
    opened(path, elsewhere).expect_weights({(elsewhere.fingerprint, 1, "qgf"): [0.1]})


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"settings": {}, "records": [{}], "bundles": [], "costs": []}'])
def test_what_is_no_such_table_is_named(bundle: TrainedBundle, tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(SimulationError, match="is not a table of this analysis; remove it or choose another --out"):
        opened(path, bundle)
    assert path.read_text() == content
