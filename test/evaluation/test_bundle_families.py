"""Which bundles belong together: by recipe, or as somebody says; seeds from manifests, or as somebody says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qgf_ros.bundle.store import file_record, load_manifest, update_manifest
from qgf_ros.errors import BundleError, SimulationError
from qgf_ros.evaluation.bundle_families import UNKNOWN, TrainedBundle, recipe_of, trained_bundles, training_seed_of

MODELS = Path(__file__).resolve().parents[2] / "models"
Make = Callable[..., Path]


@pytest.fixture
def make(tiny_bundle: Path, tmp_path: Path) -> Make:
    """Make a bundle of a name whose manifest differs in some things."""

    def make(folder: str, /, *, seed: int | None = None, networks: str = "", **changes: Any) -> Path:
        path = Path(shutil.copytree(tiny_bundle, tmp_path / folder))
        manifest = load_manifest(path)
        content = (networks or folder).encode()
        (path / "networks.txt").write_bytes(content)  # stands for networks of their own
        training = {"updates": 9} if seed is None else {"updates": 9, "config": {"seed": seed, "compile": bool(seed)}}
        files = {**manifest.files, "networks.txt": file_record(content)}
        new = {"name": folder, "training": training, "files": files, **changes}
        update_manifest(path, manifest.model_copy(update=new))
        return path

    return make


def places(bundles: tuple[TrainedBundle, ...]) -> list[tuple[str, int, str]]:
    return [(bundle.family, bundle.training_seed, bundle.path.name) for bundle in bundles]


def test_a_single_bundle_is_a_family_of_one_seed(make: Make) -> None:
    assert places(trained_bundles([make("a", seed=3)])) == [("cube-single", 3, "a")]
    assert places(trained_bundles([make("b")])) == [("cube-single", 0, "b")]


def test_bundles_of_one_recipe_are_a_family_in_the_order_of_their_seeds(make: Make) -> None:
    found = trained_bundles([make("c", seed=2), make("a", seed=0), make("b", seed=1)])
    assert places(found) == [("cube-single", 0, "a"), ("cube-single", 1, "b"), ("cube-single", 2, "c")]


def test_recipes_of_one_environment_are_called_after_their_first_bundle(make: Make) -> None:
    found = trained_bundles([make("a", seed=0), make("long", seed=0, execution_horizon=5), make("b", seed=1)])
    assert places(found) == [("a", 0, "a"), ("a", 1, "b"), ("long", 0, "long")]


def test_another_environment_is_another_family(make: Make) -> None:
    found = trained_bundles([make("a", seed=0), make("s", seed=0, environment="scene")])
    assert places(found) == [("cube-single", 0, "a"), ("scene", 0, "s")]


def test_the_seed_and_the_speed_of_a_run_are_no_recipe_and_the_rest_is(make: Make) -> None:
    one, two = load_manifest(make("a", seed=0)), load_manifest(make("b", seed=1))
    assert recipe_of(one) == recipe_of(two)
    for training in (
        {"updates": 10, "config": {"seed": 1}},
        {"updates": 9, "config": {"seed": 1, "expectile": 0.95}},
        {"updates": 9, "config": {"seed": 1}, "reward": "sparse"},
        {"updates": 9, "config": {"seed": 1}, "algorithm": "other"},
        {"updates": 9, "config": {"seed": 1}, "dataset": {"transitions": 7}},
        {"updates": 9, "config": {"seed": 1}, "critics_from": {"algorithm": "td_flow", "ensemble": 10}},
    ):
        assert recipe_of(two.model_copy(update={"training": training})) != recipe_of(one)
    for seen in ({"goal": "goal"}, {"goal_fields": ("joints",)}, {"observation": two.observation[:-1]}):
        assert recipe_of(two.model_copy(update=seen)) != recipe_of(one)
    drawn = {"updates": 9, "config": {"seed": 1}, "dataset": {"sha256": "another draw"}}
    assert recipe_of(two.model_copy(update={"training": drawn})) == recipe_of(one)
    against = [{"critics_from": {"algorithm": "iql_flow", "sha256": checkpoint}} for checkpoint in ("first", "second")]
    assert len({recipe_of(two.model_copy(update={"training": training})) for training in against}) == 1


@pytest.mark.parametrize(
    ("training", "seed"),
    [
        ({"config": {"seed": 4}}, 4),
        ({"config": {"seed": 0}}, 0),
        ({"config": {}}, UNKNOWN),
        ({"config": {"seed": True}}, UNKNOWN),
        ({"config": {"seed": "4"}}, UNKNOWN),
        ({"config": 4}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_the_seed_is_the_one_that_the_run_recorded(tiny_bundle: Path, training: dict[str, Any], seed: int) -> None:
    assert training_seed_of(load_manifest(tiny_bundle).model_copy(update={"training": training})) == seed


def test_a_family_and_a_seed_may_be_said(make: Make) -> None:
    a, b, c = make("a"), make("b"), make("c", seed=5)
    assert places(trained_bundles([f"mine:0={a}", f"mine:1={b}"])) == [("mine", 0, "a"), ("mine", 1, "b")]
    assert places(trained_bundles([f"mine={c}"])) == [("mine", 5, "c")]
    assert places(trained_bundles([f":7={a}"])) == [("cube-single", 7, "a")]


def test_a_folder_whose_name_looks_like_that_is_a_folder(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make("x=y", seed=1, networks="n", name="x").parent)
    assert places(trained_bundles(["x=y"])) == [("cube-single", 1, "x=y")]


def test_a_seed_that_nobody_knows_is_asked_for(make: Make) -> None:
    with pytest.raises(SimulationError, match="b does not say which seed .* give it, as in cube-single:1=b"):
        trained_bundles([make("a", seed=None), make("b", seed=None)][::-1])


def test_a_seed_that_is_there_twice_is_refused(make: Make) -> None:
    with pytest.raises(SimulationError, match="are both training seed 1 of cube-single; give another seed, as in"):
        trained_bundles([make("a", seed=1), make("b", seed=1)])


def test_the_same_networks_are_no_second_training_seed(make: Make) -> None:
    with pytest.raises(SimulationError, match="hold the same networks"):
        trained_bundles([make("a", seed=0, networks="n"), make("b", seed=1, networks="n")])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"environment": "scene"}, "different environment"), ({"critics": "fewer"}, "different tasks")],
)
def test_a_family_that_cannot_be_one_is_refused(make: Make, change: dict[str, Any], message: str) -> None:
    first = make("a", seed=0)
    if "critics" in change:
        change = {"critics": {"task1": load_manifest(first).critics["task1"]}}
    with pytest.raises(SimulationError, match=message):
        trained_bundles([f"f={first}", f"f={make('b', seed=1, **change)}"])


def test_a_method_of_a_family_may_have_a_bundle_for_each_task(make: Make) -> None:
    critics = load_manifest(make("plain", seed=0)).critics
    for name in critics:
        make(f"edp-{name}", seed=0, critics={name: critics[name]})
    folder = make("td", seed=1).parent
    words = ["edp@a=edp-task2", "a=plain", "td@a=td", "edp@a=edp-task1"]
    found = trained_bundles([word.replace("=", f"={folder}/") for word in words])
    assert [(one.family, one.training_seed, one.row, one.tasks) for one in found] == [
        ("a", 0, "", (1, 2)),
        ("a", 0, "edp", (2,)),
        ("a", 0, "edp", (1,)),
        ("a", 1, "td", (1, 2)),
    ]
    assert len({one.place for one in found}) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["edp@=one"], "edp@ was given without a family; name the one it is a method of, as in edp@cube-single=one"),
        (["edp@a=one", "edp@a=two"], "are both edp of training seed 0 on one task; give another seed or another name"),
        (["a=one", "edp@a=one"], "hold the same networks; give each of them once"),
        (["a=one", "edp@a=scene"], "is of another environment than .*one; name it as a method of another family"),
    ],
)
def test_a_method_that_cannot_be_one_of_its_family_is_refused(make: Make, words: list[str], message: str) -> None:
    folder = make("one").parent
    make("two")
    make("scene", environment="scene")
    with pytest.raises(SimulationError, match=message):
        trained_bundles([word.replace("=", f"={folder}/") for word in words])


def test_no_bundle_and_no_such_bundle_are_refused(make: Make) -> None:
    with pytest.raises(SimulationError, match="no bundle was given"):
        trained_bundles([])
    with pytest.raises(BundleError, match="'nowhere' was given"):
        trained_bundles(["mine:1=nowhere"])
    with pytest.raises(SimulationError, match="names no simulated environment"):
        trained_bundles([make("a", seed=0, environment=None)])


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODELS.glob("*/manifest.json")))
def test_a_shipped_bundle_knows_its_training_seed(name: str) -> None:
    assert training_seed_of(load_manifest(MODELS / name)) != UNKNOWN
