"""Oracle data sets: OGBench's format, the same bytes however they were made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="making data needs the sim extra")

from ogbench.utils import load_dataset as ogbench_load_dataset

from qgf_ros.errors import DatasetError, OutputError, SimulationError
from qgf_ros.learning.data.dataset import load_dataset, validation_path
from qgf_sim.worlds import oracle_data
from qgf_sim.worlds.environment import collection_environment
from qgf_sim.worlds.families import ENVIRONMENTS, family_of, observation_fields
from qgf_sim.worlds.oracle_data import DataType, cube_in_sight, episode_seed, generate, run_episode

NAME = "cube-single"
STEPS = 12
EPISODES = 3
PATIENCE = 120.0  # [s], for a machine that is busy with something else


def make(out: Path, workers: int = 1, **changes: Any) -> tuple[Path, Path]:
    return generate(NAME, "play", EPISODES, 5, out, workers=workers, **{"steps": STEPS, **changes})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training and a validation file made without interruption, in this process."""
    return make(tmp_path_factory.mktemp("data") / "cube-single-play-v0.npz")


def same_bytes(some: tuple[Path, Path], others: tuple[Path, Path]) -> bool:
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(some, others, strict=True))


def test_two_workers_write_the_same_bytes_as_one(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert same_bytes(make(tmp_path / "two.npz", workers=2), files)


@pytest.mark.parametrize("data_type", ["play", "noisy"])
def test_an_episode_is_the_same_bytes_whatever_ran_before(data_type: str) -> None:
    fresh, used = (collection_environment(NAME, STEPS) for _ in range(2))
    expected = run_episode(fresh, data_type, 21)  # type: ignore[arg-type]
    run_episode(used, "noisy", 1)
    run_episode(used, "play", 2)
    again = run_episode(used, data_type, 21)  # type: ignore[arg-type]
    assert {key: value.tobytes() for key, value in again.items()} == {k: v.tobytes() for k, v in expected.items()}
    fresh.close()
    used.close()


SCRIPT = """
import sys
import time
from pathlib import Path
from qgf_sim.worlds.oracle_data import generate

if __name__ == "__main__":
    def report(done, total):
        print(done, flush=True)
        if done == total - 1:  # however late it is interrupted, it has not ended
            time.sleep(600)
    generate("cube-single", "play", {episodes}, 5, Path(sys.argv[1]), workers=2, progress=report, steps={steps})
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_generation_goes_on_to_the_same_bytes(
    files: tuple[Path, Path], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.npz"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(episodes=EPISODES, steps=STEPS))
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() in ("0", ""):
        assert process.poll() is None
    # As a terminal does: the whole process group gets the signal.
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert not out.exists(), "generation ended before it could be interrupted"
    if number == signal.SIGINT:
        last = errors.strip().splitlines()[-1]
        assert last.startswith("KeyboardInterrupt: stopped; ")
        assert "the same command goes on from there" in last
        assert errors.count("Traceback") == 1, "a worker left a traceback of its own"
    kept = sorted(path.name for path in Path(f"{out}.partial").glob("[!.]*.npz"))
    assert kept
    done: list[int] = []
    again = generate(
        NAME, "play", EPISODES, 5, out, workers=1, steps=STEPS, progress=lambda count, total: done.append(count)
    )
    assert done[0] == len(kept), "kept episodes were made again"
    assert same_bytes(again, files)
    assert not Path(f"{out}.partial").exists()


def test_ogbench_own_loader_reads_the_file(files: tuple[Path, Path]) -> None:
    data = ogbench_load_dataset(str(files[0]), add_info=True)
    assert data["observations"].shape == data["next_observations"].shape == (EPISODES * (STEPS - 1), 28)
    assert data["actions"].shape == (EPISODES * (STEPS - 1), 5)
    assert data["qpos"].shape == (EPISODES * (STEPS - 1), 21)
    np.testing.assert_array_equal(data["observations"][1 : STEPS - 1], data["next_observations"][: STEPS - 2])
    np.testing.assert_array_equal(np.flatnonzero(data["terminals"]), [10, 21, 32])


def test_keys_types_and_terminals_follow_ogbench(files: tuple[Path, Path]) -> None:
    with np.load(files[0]) as archive:
        assert sorted(archive.files) == ["actions", "observations", "qpos", "qvel", "terminals"]
        kinds = {key: archive[key].dtype.name for key in archive.files}
        np.testing.assert_array_equal(np.flatnonzero(archive["terminals"]), [11, 23, 35])
        assert np.abs(archive["actions"]).max() <= 1.0
        # The state of a row is the one its action was taken in.
        np.testing.assert_array_equal(archive["qpos"][:, :6], archive["observations"][:, :6])
        np.testing.assert_array_equal(archive["qvel"][:, :6], archive["observations"][:, 6:12])
    assert kinds == {
        "observations": "float32",
        "actions": "float32",
        "terminals": "bool",
        "qpos": "float32",
        "qvel": "float32",
    }


def test_the_validation_file_is_a_tenth_of_other_episodes(files: tuple[Path, Path]) -> None:
    assert files[1] == validation_path(files[0])
    training, validation = (load_dataset(path) for path in files)
    assert len(training.trajectory_ends) == EPISODES
    assert len(validation.trajectory_ends) == 1
    starts = {row.tobytes() for row in training.observations}
    assert not starts & {row.tobytes() for row in validation.observations}


def test_episode_seeds_differ_between_splits_episodes_and_data_sets() -> None:
    seeds = {episode_seed(seed, split, index) for seed in range(3) for split in (0, 1) for index in range(50)}
    assert len(seeds) == 300


def test_play_follows_a_plan_and_noisy_adds_noise() -> None:
    env = collection_environment(NAME, 40)
    play = run_episode(env, "play", 3)
    noisy = run_episode(env, "noisy", 3)
    env.close()
    assert play["observations"][0].tobytes() == noisy["observations"][0].tobytes()
    roughness = [np.abs(np.diff(episode["actions"][:, 4])).mean() for episode in (play, noisy)]
    assert roughness[1] > roughness[0]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENVIRONMENTS if name not in (NAME, "scene")]


@pytest.fixture(scope="module", params=["scene", *SLOW])
def collection(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The data collection environment of every family but cube-single."""
    env = collection_environment(request.param, 60)
    yield env
    env.close()


@pytest.mark.parametrize("data_type", ["play", "noisy"])
def test_an_episode_of_every_family_has_its_states_and_the_same_bytes_again(
    collection: Any, data_type: DataType
) -> None:
    name = collection.spec.id.removesuffix("-v0")
    family = family_of(name)
    first = run_episode(collection, data_type, 3)
    between = run_episode(collection, "noisy", 8)
    again = run_episode(collection, data_type, 3)
    assert {key: value.tobytes() for key, value in again.items()} == {k: v.tobytes() for k, v in first.items()}
    assert first["actions"].tobytes() != between["actions"].tobytes()
    model = collection.unwrapped.model
    widths = {"qpos": model.nq, "qvel": model.nv, "button_states": family.buttons}
    assert {key: first[key].shape for key in family.state_keys} == {k: (60, widths[k]) for k in family.state_keys}
    assert first["observations"].shape == (60, sum(field.size for field in observation_fields(name)))
    assert list(first) == ["observations", "actions", "terminals", *family.state_keys]


def test_every_kind_of_sub_goal_has_its_oracle_and_noise_brings_random_actions(
    collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_of(collection.spec.id.removesuffix("-v0"))
    kinds: set[str] = set()
    sampled: list[int] = []
    make = oracle_data._make_oracles

    class Recorded(dict[str, Any]):
        def __getitem__(self, kind: str) -> Any:
            kinds.add(kind)
            return super().__getitem__(kind)

    def sample() -> np.ndarray:
        sampled.append(1)
        return np.zeros(5)

    monkeypatch.setattr(oracle_data, "_make_oracles", lambda *arguments: Recorded(make(*arguments)))
    monkeypatch.setattr(collection.unwrapped.action_space, "sample", sample)
    for seed in range(4):
        run_episode(collection, "play", seed)
    possible = {slide.name for slide in family.slides} | set(["cube"][: family.cubes] + ["button"][: family.buttons])
    assert kinds <= possible
    assert len(kinds) >= min(2, len(possible))
    assert not sampled
    run_episode(collection, "noisy", 1)
    assert 0 < len(sampled) < 30


@pytest.mark.parametrize(
    ("position", "seen"),
    [
        ((0.4, 0.1, 0.02), True),
        ((0.4, 0.30, 0.02), False),  # beyond the right edge
        ((0.33, -0.35, 0.066), True),  # in the drawer
        ((0.33, -0.35, 0.02), False),  # beyond the left edge, on the floor
        ((0.33, -0.35, 0.12), False),
    ],
)
def test_a_cube_out_of_sight_is_noticed_on_any_row(position: tuple[float, float, float], seen: bool) -> None:
    rows = np.tile([0.4, 0.0, 0.02], (5, 1))
    assert cube_in_sight(rows)
    rows[3] = position
    assert cube_in_sight(rows) == seen


def test_an_episode_that_loses_its_cube_is_run_again_from_another_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    env = collection_environment("scene", 5)

    def kept(*verdicts: bool) -> bytes:
        left = list(verdicts)
        monkeypatch.setattr(oracle_data, "cube_in_sight", lambda positions: left.pop(0))
        episode = run_episode(env, "play", 3)
        assert not left
        return episode["observations"].tobytes()

    third = kept(False, False, True)
    assert len({kept(True), kept(False, True), third}) == 3
    assert kept(False, False, True) == third
    env.close()


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ((NAME, "play", 1, 0, Path("data.npy")), DatasetError, "does not end in .npz"),
        ((NAME, "play", 0, 0, Path("data.npz")), DatasetError, "at least 1 episode"),
        ((NAME, "play", 1, -1, Path("data.npz")), DatasetError, "seed of at least 0"),
        ((NAME, "expert", 1, 0, Path("data.npz")), DatasetError, "play, noisy"),
        (("cube-dozen", "play", 1, 0, Path("data.npz")), SimulationError, "the known ones are cube-single"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str, int, int, Path],
    error: type[Exception],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=reason):
        generate(*arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_shards_of_another_data_set_are_not_mixed_in(tmp_path: Path) -> None:
    shards = tmp_path / "out.npz.partial"
    shards.mkdir()
    (shards / "recipe.json").write_text('{"environment": "cube-single", "type": "noisy", "seed": 5, "steps": 12}')
    with pytest.raises(DatasetError, match="delete the folder"):
        make(tmp_path / "out.npz")


def test_a_run_that_ended_between_its_two_files_goes_on_and_then_they_are_finished(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npz"
    merge, begun = oracle_data.merge, []

    def once(shards: list[Path], path: Path, texts: dict[str, str]) -> None:
        if begun:
            raise KeyboardInterrupt
        begun.append(path)
        merge(shards, path, texts)

    monkeypatch.setattr(oracle_data, "merge", once)
    with pytest.raises(KeyboardInterrupt):
        make(out)
    monkeypatch.undo()
    assert begun == [out]
    assert same_bytes(make(out), files), "what is there is its own"
    with pytest.raises(OutputError, match="out.npz exists; give --force"):
        make(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-val.npz", "out.npz"]
    out.write_text("")
    assert same_bytes(make(out, force=True), files)
