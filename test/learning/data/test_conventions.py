"""Whatever keys a file has, its chunks lie within episodes, or it is refused in one sentence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("torch", reason="training needs the train extra")

import torch

from qgf_ros.errors import DatasetError, QgfError
from qgf_ros.learning.data.chunks import ChunkData
from qgf_ros.learning.data.conventions import FLAGS, GYMNASIUM, KEYS
from qgf_ros.learning.data.dataset import NORMALISATION_KEY, Dataset, chunk_returns, load_dataset, solved_chunks
from qgf_ros.learning.run import own_rewards

#: Episodes, and rows of each.
EPISODES, LENGTH = 10, 20
ROWS = EPISODES * LENGTH
LAST = np.arange(ROWS) % LENGTH == LENGTH - 1


def form(**change: Any) -> dict[str, Any]:
    """OGBench's keys; row i observes i and acts i / ROWS."""
    row = np.arange(ROWS, dtype=np.float32)
    arrays = {"observations": row[:, None], "actions": row[:, None] / ROWS, "terminals": LAST, **change}
    return {key: array for key, array in arrays.items() if array is not None}


def loaded(tmp_path: Path, arrays: Mapping[str, Any]) -> Dataset:
    np.savez(tmp_path / "d.npz", **arrays)
    return load_dataset(tmp_path / "d.npz")


def transitions(data: Dataset, horizon: int = 1) -> list[tuple[float, float]]:
    """What is observed where a chunk begins, and after it."""
    starts = data.chunk_starts(horizon)
    return [(float(data.observations[i, 0]), float(data.observations[i + horizon, 0])) for i in starts]


REWARDS = {"rewards": LAST.astype(np.float32), "masks": 1.0 - LAST}
#: Where an episode solved its task one row before its last, as in OGBench's own relabelling.
BEFORE = np.roll(LAST, -1)
WITHIN = {"rewards": BEFORE - np.float32(1.0), "masks": 1.0 - BEFORE}
#: Successors of the rows, -1 at the last of each episode.
FOLLOWING = np.where(LAST, -1.0, np.arange(ROWS) + 1.0)[:, None]
INSIDE = [(float(i), float(i + 1)) for i in range(ROWS) if not LAST[i]]
ALL = [(float(i), -1.0 if LAST[i] else float(i + 1)) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("change", "expected", "solved"),
    [
        pytest.param(WITHIN, INSIDE, EPISODES, id="OGBench"),
        pytest.param({**WITHIN, "valids": ~LAST, "terminals": LAST | BEFORE}, INSIDE, EPISODES, id="OGBench, compact"),
        pytest.param({**REWARDS, "next_observations": FOLLOWING}, ALL, EPISODES, id="OGBench, regular"),
        pytest.param({key: array[:, None] for key, array in WITHIN.items()}, INSIDE, EPISODES, id="columns"),
        pytest.param({**WITHIN, "terminals": LAST[:, None].astype(">f8")}, INSIDE, EPISODES, id="column of flags"),
        pytest.param(
            {"terminals": np.zeros(ROWS), "timeouts": LAST, "rewards": -np.ones(ROWS)},
            INSIDE,
            0,
            id="D4RL, timeouts only",
        ),
        pytest.param(
            {"terminals": LAST, "timeouts": np.zeros(ROWS), "rewards": -np.ones(ROWS)},
            [(i, i if after < 0 else after) for i, after in ALL],
            EPISODES,
            id="D4RL, terminals only",
        ),
        pytest.param(
            {
                "terminals": np.arange(ROWS) == ROWS - 1,
                "timeouts": LAST,
                "rewards": -np.ones(ROWS),
                "masks": np.ones(ROWS),
            },
            INSIDE,
            0,
            id="timeouts, and masks that know of no end",
        ),
        pytest.param(
            {
                "terminals": None,
                "terminations": LAST,
                "truncations": np.zeros(ROWS),
                "rewards": LAST,
                "next_observations": FOLLOWING,
            },
            ALL,
            EPISODES,
            id="Gymnasium",
        ),
        pytest.param(
            {"terminals": None, "dones": LAST, **REWARDS, "next_observations": FOLLOWING}, ALL, EPISODES, id="Gym"
        ),
        pytest.param(
            {"terminals": None, "dones": LAST, "timeouts": LAST, "rewards": LAST}, INSIDE, 0, id="Gym, timeouts only"
        ),
        pytest.param(
            {"terminals": np.zeros(ROWS), "rewards": LAST, "masks": 1.0 - LAST, "next_observations": FOLLOWING},
            ALL,
            EPISODES,
            id="D4RL for Q-learning, which marks no timeout",
        ),
    ],
)
def test_each_convention_gives_its_own_transitions(
    tmp_path: Path, change: dict[str, Any], expected: list[tuple[float, float]], solved: int
) -> None:
    data = loaded(tmp_path, form(**change))
    assert transitions(data) == expected
    for horizon in (2, 5, LENGTH - 1):
        within = {start for start, _ in transitions(data, horizon)}
        firsts = {start for start, _ in expected}
        assert within == {
            i for i in firsts if {i + k for k in range(horizon)} <= firsts and i % LENGTH + horizon <= LENGTH
        }
    rewards, masks = own_rewards(data, "task")["task"]
    starts = data.chunk_starts(1)
    returns, bootstraps = chunk_returns(starts, rewards, masks, 1, 0.99)
    assert (bootstraps == 0).sum() == solved_chunks(starts, masks, 1).sum() == solved
    assert returns.max() == max(float(change["rewards"].ravel()[int(first)]) for first, _ in expected)


def test_transitions_without_an_order_are_each_a_trajectory_and_that_is_said(tmp_path: Path) -> None:
    """The successors of shuffled rows are no rows: chunks of one action are right, and longer ones are refused."""
    data = loaded(tmp_path, form(**REWARDS, next_observations=np.arange(ROWS)[:, None] + 0.5))
    assert transitions(data) == [(float(i), i + 0.5) for i in range(ROWS)]
    assert "after 190 rows that no key marks as an end" in data.notes[0]
    returns, bootstraps = chunk_returns(data.chunk_starts(1), data.extras["rewards"], data.extras["masks"], 1, 0.99)
    assert (returns.max(), (bootstraps == 0).sum()) == (1.0, EPISODES)
    with pytest.raises(DatasetError, match="no trajectory has more than 2 rows.*next_observations is not what"):
        data.chunk_starts(2)


def test_successors_that_are_rounded_are_the_next_rows(tmp_path: Path) -> None:
    data = loaded(tmp_path, form(next_observations=FOLLOWING.astype(np.float64) * (1.0 + 1e-7)))
    assert len(data.trajectory_ends) == EPISODES
    assert not data.notes


def test_a_file_that_stops_within_an_episode_of_transitions_ends_there(tmp_path: Path) -> None:
    cut = {key: array[:-5] for key, array in form(timeouts=np.zeros(ROWS), rewards=LAST).items()}
    assert transitions(loaded(tmp_path, cut))[-1] == (ROWS - 7.0, ROWS - 6.0)


def test_rewards_of_another_origin_see_no_row_that_was_not_observed(tmp_path: Path) -> None:
    own = loaded(tmp_path, form(timeouts=np.zeros(ROWS), rewards=LAST, qpos=np.arange(2 * ROWS).reshape(ROWS, 2)))
    assert len(own.terminals) == ROWS + EPISODES
    seen = own.observed()
    assert transitions(seen) == INSIDE
    np.testing.assert_array_equal(seen.extras["qpos"], np.arange(2 * ROWS).reshape(ROWS, 2))
    assert seen.observed() is seen


def test_success_that_no_chunk_comes_to_is_said(tmp_path: Path) -> None:
    (note,) = loaded(tmp_path, form(**REWARDS)).notes
    assert note.startswith("masks is 0 on last rows of trajectories only, whose actions are not trained on")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terminals": None}, "lacks terminals; it has 'actions', 'observations', and docs/data.md says what is read"),
        (
            {"observations": None, "obs": np.zeros((ROWS, 1))},
            "lacks observations; it has 'actions', 'obs', 'terminals'",
        ),
        ({"terminals": np.where(np.arange(ROWS) == 57, np.nan, LAST)}, "terminals holds nan, expected 0 or 1"),
        ({"timeouts": np.full(ROWS, 2)}, "timeouts holds 2, expected 0 or 1"),
        ({"dones": np.zeros(ROWS)}, "terminals is 1 and dones 0 on row 19"),
        (
            {"terminals": np.zeros(ROWS), "timeouts": np.zeros(ROWS)},
            "no row has terminals or timeouts; mark the last row",
        ),
        ({"terminals": np.zeros(ROWS)}, "the last row is not terminal"),
        ({"terminations": LAST, "truncations": LAST}, "has both terminals and terminations"),
        ({"timeouts": LAST, "truncations": LAST}, "has both timeouts and truncations"),
        ({"terminals": None, "terminations": LAST}, "has terminations and no truncations; add truncations"),
        ({"valids": ~LAST, "timeouts": LAST}, "has valids and timeouts, which are of two conventions"),
        ({"valids": ~LAST, "next_observations": FOLLOWING}, "has valids and next_observations"),
        ({"valids": ~LAST & ~BEFORE}, "valids is 0 on row 19, which has no transition before it"),
        ({"valids": np.ones(ROWS)}, "valids is 1 on the last row"),
        (
            {"valids": np.arange(ROWS) != ROWS - 1},
            "terminals is 1 on row 19, and valids 0 neither there nor on the next",
        ),
        ({"timeout": LAST}, "has timeout, which is not read; give it as timeouts"),
        ({"done": LAST}, "has done, which is not read; give it as dones"),
        ({"is_last": LAST}, "has is_last, which is not read; give it as dones"),
        ({"next_obs": FOLLOWING}, "has next_obs, which is not read; give it as next_observations"),
        ({"mask": LAST}, "has mask, which is not read; give it as masks"),
        ({"next_observations": FOLLOWING[:-1]}, "next_observations has 199 rows, terminals has 200"),
        ({"next_observations": np.zeros((ROWS, 2))}, "next_observations has shape (200, 2), observations (200, 1)"),
        ({"next_observations": FOLLOWING * np.nan}, "next_observations holds a value that is not finite"),
        ({"rewards": np.where(LAST, np.nan, 0.0)}, "rewards holds a value that is not finite"),
        ({"rewards": np.full(ROWS, 1e300)}, "rewards holds a value that is not finite"),
        ({"rewards": np.zeros((ROWS, 2))}, "rewards has shape (200, 2), expected a value for each row"),
        ({"rewards": np.zeros((1, ROWS))}, "rewards has shape (1, 200), expected a value for each row"),
        ({"masks": np.full(ROWS, 0.5)}, "masks holds 0.5, expected 1, or 0 where it is solved"),
        ({"masks": np.ones(3)}, "masks has 3 rows, terminals has 200"),
        (
            {"observations": np.zeros((ROWS + EPISODES, 1))},
            "one more for each episode: split it into observations and next",
        ),
        ({"observations": np.zeros((ROWS, 8, 8, 3))}, "has shape (200, 8, 8, 3)"),
        ({"observations": np.zeros((ROWS, 0))}, "has shape (200, 0)"),
        ({"observations": np.zeros((ROWS, 10_001), np.uint8)}, "has 10001 columns, expected at most 10000"),
        ({"observations": np.full((ROWS, 1), 1e300)}, "observations holds a value that is not finite"),
        ({"actions": np.zeros(ROWS)}, "actions has shape (200,)"),
        ({"qpos": np.zeros(ROWS)}, "qpos has shape (200,)"),
        ({key: np.zeros((0, 1)) for key in ("observations", "actions", "terminals")}, "holds no row"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_its_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError) as refused:
        loaded(tmp_path, form(**change))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["?", "u1", "i8", ">f4", "f2", "f8", "g"])
def test_any_real_numbers_are_read(tmp_path: Path, kind: str) -> None:
    numbers = np.arange(ROWS)[:, None] % 2
    data = loaded(
        tmp_path, form(observations=np.asfortranarray(numbers.astype(kind)), actions=numbers[::-1].astype(kind))
    )
    np.testing.assert_array_equal(data.observations, numbers)
    np.testing.assert_array_equal(data.actions, numbers[::-1])
    assert data.observations.dtype == data.actions.dtype == np.float32


ANY_ARRAY = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(max_size=2)),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
OTHERS = ("timeout", "done", "next_obs", "images", "infos/qpos", "action_normalisation")


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A file of any convention; row i acts i / 64."""
    rows = draw(st.integers(2, 16))
    row = np.arange(rows, dtype=np.float32)

    def flag(last: bool) -> np.ndarray:
        seldom = st.lists(st.sampled_from((False, False, False, True)), min_size=rows - 1, max_size=rows - 1)
        return np.array([*draw(seldom), last])

    marks = draw(
        st.sampled_from((("terminals",), ("dones",), ("terminals", "timeouts"), tuple(GYMNASIUM), ("valids",)))
    )
    arrays: dict[str, Any] = {"observations": row[:, None], "actions": row[:, None] / 64}
    arrays |= {key: flag(True) for key in marks}
    if marks == ("valids",):
        arrays = {**arrays, "valids": ~arrays["valids"], "terminals": arrays["valids"]}
    elif draw(st.booleans()):
        arrays["next_observations"] = np.where(flag(True), 100.0 + row, row + 1.0)[:, None]
    if draw(st.booleans()):
        arrays |= {"rewards": row, "masks": ~flag(draw(st.booleans()))}
    return arrays


@given(files(), st.integers(1, 3))
@examples(150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_and_their_successors_never_leave_an_episode(
    tmp_path: Path, arrays: dict[str, Any], horizon: int
) -> None:
    try:
        data = loaded(tmp_path, arrays)
        starts = data.chunk_starts(horizon)
    except DatasetError as error:
        said = str(error)
        assert "valids is 0 on row" in said or "no trajectory has more than" in said
        return
    marks = [array.astype(bool) for key, array in arrays.items() if key in (*FLAGS, *GYMNASIUM)]
    ends = ~arrays["valids"] if "valids" in arrays else np.logical_or.reduce(marks)
    rows = np.rint(data.actions[:, 0] * 64).astype(int)
    for start in starts:
        first, last = rows[start], rows[start] + horizon - 1
        assert rows[start : start + horizon].tolist() == list(range(first, last + 1))
        assert not ends[first:last].any()
        successor = data.observations[start + horizon]
        if "next_observations" in arrays:
            np.testing.assert_array_equal(successor, arrays["next_observations"][last])
        elif ends[last]:  # whose successor is nowhere, and not looked at
            assert data.extras["masks"][start + horizon - 1] == 0
            assert start + horizon in data.closing
        else:
            np.testing.assert_array_equal(successor, arrays["observations"][last + 1])


@given(
    files(), st.dictionaries(st.sampled_from((*KEYS, *OTHERS)), ANY_ARRAY, min_size=1, max_size=3), st.integers(1, 3)
)
@examples(100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_any_arrays_are_a_data_set_or_one_sentence(
    tmp_path: Path, arrays: dict[str, Any], odd: dict[str, Any], horizon: int
) -> None:
    try:
        data = loaded(tmp_path, {**arrays, **odd})
        chunks = ChunkData.build(data, own_rewards(data, "task"), horizon, 0.99, torch.device("cpu"))
        assert torch.isfinite(chunks.returns).all()
    except QgfError as error:
        said = str(error)
        assert said
        assert "\n" not in said


def test_every_pair_of_flags_is_read_or_refused_by_name(tmp_path: Path) -> None:
    for pair in itertools.combinations(("terminals", *FLAGS[1:], *GYMNASIUM), 2):
        arrays = form(**{"terminals": None, **{key: ~LAST if key == "valids" else LAST for key in pair}})
        try:
            assert transitions(loaded(tmp_path, arrays)) == INSIDE, pair
        except DatasetError as error:
            said = str(error)
            assert any(key in said for key in (*pair, "terminals")), pair


def test_the_documentation_names_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [key for key in (*KEYS, NORMALISATION_KEY) if f"`{key}`" not in page] == []
