"""A policy that sees, in the simulator: from data by way of training and export to episodes in closed loop."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="environments need the sim extra")
pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("cv2", reason="cameras need the camera extra")

from qgf_ros.analysis.inputs import load_primitives
from qgf_ros.bundle.store import load_manifest, update_manifest
from qgf_ros.cli import main
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_ros.runtime.policy import Policy
from qgf_sim.rollouts.evaluate import EvaluationPlan, evaluate
from qgf_sim.rollouts.film import film_episode
from qgf_sim.rollouts.film_panels import NAME as NAME_LINE
from qgf_sim.rollouts.film_panels import panel
from qgf_sim.rollouts.states import collect_states
from qgf_sim.worlds import environment
from qgf_sim.worlds.oracle_data import generate
from qgf_sim.worlds.picture_setting import OGBENCH_RENDERING, RENDERING
from qgf_sim.worlds.rendering import check_drawing

NAME = "visual-cube-single"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few updates; what it does is of no interest, only that it is the same every time."""
    try:
        check_drawing()
    except SimulationError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("seeing")
    data, run, out = (folder / name for name in ("play.npz", "run", "seeing"))
    generate(NAME, "play", 1, 0, data, workers=1, steps=20)
    fixed = ("--env", NAME, "--tasks", "2", "--horizon", "2", "--device", "cpu", "--threads", "1", "--smoke")
    assert main(["train", "--dataset", str(data), "--out", str(run), "--features", "8", *fixed]) == 0
    assert main(["export", str(run), "--out", str(out)]) == 0
    return out


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    make = environment._make
    monkeypatch.setattr(environment, "_make", lambda name, **options: make(name, **{**options, "max_episode_steps": 6}))


def episodes(bundle: Path, **changes: Any) -> list[np.ndarray]:
    values = {"episodes": 2, "guidance_weights": (0.1,), "record": True, "batch_size": 1, **changes}
    plan = EvaluationPlan(bundle=bundle, task=2, **values)
    return [episode.commands for episode in evaluate(plan)[0.1]]


def test_a_bundle_that_sees_says_how_its_pictures_were_made(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    assert manifest.environment == NAME
    assert manifest.cameras["camera"].size == (64, 64)
    assert manifest.encoding is not None
    assert manifest.encoding.features == manifest.observation_size + 8 == 27
    assert manifest.training["rendering"] == RENDERING.record()


@pytest.mark.usefixtures("short")
def test_episodes_are_the_same_again_and_nearly_so_in_a_batch(bundle: Path) -> None:
    alone, again, together = episodes(bundle), episodes(bundle), episodes(bundle, batch_size=2)
    assert [commands.shape for commands in alone] == [(6, 5), (6, 5)]
    for one, two, three in zip(alone, again, together):
        assert one.tobytes() == two.tobytes()
        np.testing.assert_allclose(one, three, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_policy_acts_on_what_it_sees(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = episodes(bundle, episodes=1)
    frames = environment.TaskEnvironment.readings

    def dark(self: Any) -> Any:
        readings = frames(self)
        readings["camera/image_raw"].data[:] = 0
        return readings

    monkeypatch.setattr(environment.TaskEnvironment, "readings", dark)
    assert not np.array_equal(seen[0], episodes(bundle, episodes=1)[0])


@pytest.mark.slow
def test_an_episode_over_ros_with_pictures_on_topics_is_the_one_in_process_to_the_bit(bundle: Path) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")
    from qgf_sim.live.demo import run_demo

    class Silent:
        def note(self, text: str) -> None: ...

        def warn(self, text: str) -> None: ...

        def add(self, episode: Any) -> None: ...

    (here,) = episodes(bundle, episodes=1)
    (there,) = run_demo(EpisodePlan(bundle, 2, (0.1,), 1, record=True), Silent())[0.1]
    heard = ~np.isnan(there.commands).any(axis=1)  # of a command that nobody took down there is none to compare
    assert heard.sum() > len(here) // 2
    assert there.commands[heard].tobytes() == here[heard].tobytes()


def test_pictures_of_another_renderer_setting_are_refused_before_anything_is_trained_on_them(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(bundle.with_name("play.npz")) as data:
        other = {**data, "rendering": np.array(json.dumps(OGBENCH_RENDERING.record()))}
    np.savez(tmp_path / "other.npz", **other)
    words = [
        "--dataset",
        str(tmp_path / "other.npz"),
        "--out",
        str(tmp_path / "run"),
        "--env",
        NAME,
        "--tasks",
        "2",
        "--smoke",
    ]
    assert main(["train", *words]) == 2
    assert "the data set has pictures of another renderer setting than the simulation" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_bundle_of_other_pictures_is_not_evaluated(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    other = {**manifest.training, "rendering": OGBENCH_RENDERING.record()}
    camera = manifest.cameras["camera"].model_copy(update={"topic": "wrist/image_raw"})  # which would never send
    try:
        update_manifest(bundle, manifest.model_copy(update={"training": other}))
        with pytest.raises(SimulationError, match="bundle seeing has pictures of another renderer setting"):
            episodes(bundle)
        update_manifest(bundle, manifest.model_copy(update={"cameras": {"camera": camera}}))
        with pytest.raises(SimulationError, match="does not have the observation contract of visual-cube-single"):
            episodes(bundle)
    finally:
        update_manifest(bundle, manifest)


def test_a_bundle_of_other_pictures_is_not_shown_over_ros(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")
    manifest = load_manifest(bundle)
    other = {**manifest.training, "rendering": OGBENCH_RENDERING.record()}
    update_manifest(bundle, manifest.model_copy(update={"training": other}))
    try:
        assert main(["demo", "--bundle", str(bundle), "--task", "2", "--episodes", "1"]) == 2
        assert "bundle seeing has pictures of another renderer setting" in capsys.readouterr().err
    finally:
        update_manifest(bundle, manifest)


@pytest.mark.usefixtures("short")
def test_a_film_shows_beside_the_scene_what_the_policy_sees(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, given = Policy.load(bundle), []
    act = policy.act

    def watched(*arguments: Any, **options: Any) -> Any:
        given.append(arguments[-1]["camera"][0])
        return act(*arguments, **options)

    monkeypatch.setattr(policy, "act", watched)
    options = RunOptions(0.1, "task2", execution_horizon=1).resolve(policy.manifest)
    pictures = film_episode(policy, load_primitives(bundle), 2, options, (96, 160), 2).pictures
    beside = [picture[40 + NAME_LINE :, 96 + 4 :] for picture in pictures]
    assert {picture.shape for picture in beside} == {(160 - NAME_LINE, 2 * 64, 3)}
    for k, picture in enumerate(beside[:3]):  # every pixel is four
        enlarged = given[2 * k].repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(picture[:128], enlarged)
    assert len({pixels.tobytes() for pixels in given}) == 6


@pytest.mark.usefixtures("short")
def test_states_that_a_policy_meets_come_with_what_it_saw(bundle: Path) -> None:
    observations, images = collect_states(bundle, 2, 3, episodes=1)
    assert (observations.shape, images["camera"].shape) == ((3, 19), (3, 64, 64, 3))
    assert len({pixels.tobytes() for pixels in images["camera"]}) == 3


def test_pictures_of_several_cameras_stand_below_each_other_and_large_ones_shrink() -> None:
    random = np.random.default_rng(0)
    small, large = (random.integers(0, 200, (*size, 3), dtype=np.uint8) for size in ((7, 5), (300, 100)))
    found = panel({"wrist": small, "front": large}, 100)
    assert found.shape == (100, 4 + 20, 3)
    np.testing.assert_array_equal(found[NAME_LINE : NAME_LINE + 28, 4:24], small.repeat(4, axis=0).repeat(4, axis=1))
    shrunk = found[50 + NAME_LINE : 100, 4 : 4 + 11]
    assert {tuple(pixel) for pixel in shrunk.reshape(-1, 3)} <= {tuple(pixel) for pixel in large.reshape(-1, 3)}


def test_without_opencv_the_demo_says_how_to_install_it_before_anything_starts(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="needs the ros extra or a ROS 2 installation")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "cv2" else find(name, *rest))
    assert main(["demo", "--bundle", str(bundle), "--task", "2", "--episodes", "1"]) == 2
    assert "[camera]" in capsys.readouterr().err
