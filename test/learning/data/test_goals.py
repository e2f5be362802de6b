"""Goals in hindsight: drawn by the law that is claimed, never across the end of a trajectory, and rewarded as reached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.algorithms.iql_flow import IqlFlow  # noqa: E402
from qgf_ros.learning.algorithms.options import IqlFlowConfig  # noqa: E402
from qgf_ros.learning.data.chunks import Batch, ChunkData  # noqa: E402
from qgf_ros.learning.data.dataset import Dataset  # noqa: E402
from qgf_ros.learning.data.goals import PartialGoal, goal_returns, later_rows, mixed_rows  # noqa: E402
from qgf_ros.learning.trainer import Trainer, TrainingConfig, new_algorithm  # noqa: E402

CPU = torch.device("cpu")
CONFIG = TrainingConfig(horizon=3, updates=40, batch_size=64, seed=3, goal_conditioned=True)
OPTIONS = IqlFlowConfig(hidden=(16, 16))
LENGTHS = st.lists(st.integers(1, 15), min_size=1, max_size=6).filter(lambda lengths: max(lengths) > CONFIG.horizon)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset(lengths: list[int]) -> Dataset:
    """A row's observation is its number and that of its trajectory."""
    rows = sum(lengths)
    terminals = np.zeros(rows, dtype=bool)
    terminals[np.cumsum(lengths) - 1] = True
    observations = np.stack([np.arange(rows), np.repeat(np.arange(len(lengths)), lengths)], axis=1)
    return Dataset(observations.astype(np.float32), np.zeros((rows, 2), np.float32), terminals, {})


def trainer(data: Dataset, config: TrainingConfig = CONFIG, options: IqlFlowConfig = OPTIONS) -> Trainer:
    chunks = ChunkData.build(data, {}, config.horizon, config.discount, CPU)
    return Trainer(config, new_algorithm(config, IqlFlow, options, ("goal",), chunks), chunks, CPU)


def sample(data: Dataset, seed: int) -> Batch:
    subject = trainer(data)
    return subject.sample(subject.data, CONFIG.batch_size, generator(seed))


def cost_of_the_way(row: int, goal: int, horizon: int, discount: float) -> tuple[float, float]:
    """Reward and factor of what follows, gone through step by step."""
    total, factor = 0.0, 1.0
    for step in range(horizon):
        if row + step == goal:
            return total, 0.0
        total -= factor
        factor *= discount
    return total, factor


def frequencies(rows: torch.Tensor, count: int) -> np.ndarray:
    return np.bincount(rows.numpy(), minlength=count) / len(rows)


def test_the_policy_s_goals_are_later_rows_of_the_trajectory_all_alike() -> None:
    draws = 100_000
    rows, ends = torch.full((draws,), 7), torch.full((draws,), 12)
    expected = np.isin(np.arange(20), [8, 9, 10, 11, 12]) / 5
    np.testing.assert_allclose(frequencies(later_rows(rows, ends, generator()), 20), expected, atol=0.006)


@pytest.mark.parametrize("discount", [0.5, 0.9])
def test_the_critic_s_goals_follow_the_mixture(discount: float) -> None:
    draws, count, row, end = 200_000, 20, 7, 12
    expected = np.full(count, 0.3 / count)
    expected[row] += 0.2
    for ahead in range(1, 100_000):  # the geometric law, cut off at the end of the trajectory
        expected[min(row + ahead, end)] += 0.5 * (1 - discount) * discount ** (ahead - 1)
    goals = mixed_rows(torch.full((draws,), row), torch.full((draws,), end), count, discount, generator())
    assert expected.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(frequencies(goals, count), expected, atol=0.005)


def test_the_mean_distance_of_a_goal_that_no_end_cuts_off_is_that_of_the_discount() -> None:
    rows = torch.zeros(200_000, dtype=torch.int64)
    goals = mixed_rows(rows, rows + 10**9, 1, 0.99, generator())
    ahead = goals[goals > 0].double()
    assert len(ahead) / len(rows) == pytest.approx(0.5, abs=0.005)
    assert ahead.mean() == pytest.approx(100.0, rel=0.02)


@given(st.integers(-30, 30), st.integers(1, 6), st.floats(0.5, 0.999))
def test_returns_are_the_cost_of_the_way_to_the_goal(distance: int, horizon: int, discount: float) -> None:
    total, factor = goal_returns(torch.tensor([distance]), horizon, discount)
    assert (total.item(), factor.item()) == pytest.approx(cost_of_the_way(0, distance, horizon, discount), abs=1e-5)


@given(LENGTHS, st.integers(0, 2**31))
def test_a_batch_differs_from_a_plain_one_by_its_goals_and_by_what_they_are_worth(
    lengths: list[int], seed: int
) -> None:
    data = dataset(lengths)
    batch, starts = sample(data, seed), data.chunk_starts(CONFIG.horizon)
    assert torch.equal(batch.policy_s[:, :2], batch.s[:, :2])
    assert torch.equal(batch.s[:, 2:], batch.next_s[:, 2:])
    for s, next_s, policy_s, total, factor in zip(
        batch.s.int().tolist(),
        batch.next_s.int().tolist(),
        batch.policy_s.int().tolist(),
        *batch.returns.tolist(),
        *batch.bootstraps.tolist(),
    ):
        (row, trajectory, goal, of_goal), (policy_goal, of_policy_goal) = s, policy_s[2:]
        assert row in starts
        assert next_s[:2] == [row + CONFIG.horizon, trajectory]
        assert of_policy_goal == trajectory
        assert policy_goal > row
        assert data.observations[goal].tolist() == [goal, of_goal]
        expected = cost_of_the_way(row, goal, CONFIG.horizon, CONFIG.discount)
        assert (total, factor) == pytest.approx(expected, abs=1e-5)
        assert factor > 0.0 or of_goal == trajectory, "a goal of another trajectory was reached"


#: Of observations [place, x, y, switch], the switch and where x and y are to be, in another order than the observation's.
OBJECTS = PartialGoal((((3,), 0.5), ((1, 2), 0.25)))


def moving(lengths: list[int], seed: int) -> Dataset:
    """A point that drifts a quarter at a time, and a switch; both are often as they were."""
    data = dataset(lengths)
    random = np.random.default_rng(seed)
    rows = len(data.terminals)
    walk = np.cumsum(random.integers(-1, 2, size=(rows, 2)), axis=0) * 0.25
    switch = np.cumsum(random.random(rows) < 0.2) % 2
    observations = np.column_stack([np.arange(rows), walk, switch]).astype(np.float32)
    return replace(data, observations=observations)


@given(LENGTHS, st.integers(0, 2**31))
def test_a_partial_goal_is_reached_at_the_first_row_that_is_as_it_says(lengths: list[int], seed: int) -> None:
    data = moving(lengths, seed)
    chunks = ChunkData.build(data, {}, CONFIG.horizon, CONFIG.discount, CPU, OBJECTS)
    subject = Trainer(CONFIG, new_algorithm(CONFIG, IqlFlow, OPTIONS, ("goal",), chunks), chunks, CPU)
    batch = subject.sample(chunks, CONFIG.batch_size, generator(seed))
    assert batch.s.shape == batch.policy_s.shape == batch.next_s.shape == (CONFIG.batch_size, 4 + 3)
    told = {tuple(row) for row in data.observations[:, [3, 1, 2]].tolist()}
    ends = data.trajectory_ends
    for s, policy_s, next_s, total, factor in zip(
        *(part.tolist() for part in (batch.s, batch.policy_s, batch.next_s)),
        *batch.returns.tolist(),
        *batch.bootstraps.tolist(),
    ):
        row, goal = int(s[0]), s[4:]
        assert tuple(goal) in told
        assert next_s == [*data.observations[row + CONFIG.horizon].tolist(), *goal]
        later = data.observations[row + 1 : ends[np.searchsorted(ends, row)] + 1, [3, 1, 2]]
        assert policy_s[:4] == s[:4]
        assert policy_s[4:] in later.tolist()
        ahead = data.observations[row : row + CONFIG.horizon]
        there = [at[3] == goal[0] and np.hypot(at[1] - goal[1], at[2] - goal[2]) <= 0.25 for at in ahead]
        first = row + there.index(True) if True in there else -1
        assert (total, factor) == pytest.approx(cost_of_the_way(row, first, CONFIG.horizon, CONFIG.discount), abs=1e-5)


def test_goals_are_part_of_what_a_resumed_run_repeats() -> None:
    data = dataset([20, 30])
    straight, first, second = trainer(data), trainer(data), trainer(data)
    for _ in range(6):
        straight.update()
    for _ in range(2):
        first.update()
    second.load_state(first.state())
    for _ in range(4):
        second.update()
    assert all(torch.equal(tensor, straight.state()[name]) for name, tensor in second.state().items())


def test_the_critic_learns_how_far_the_goal_is() -> None:
    data = dataset([40])
    places = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    data = replace(data, observations=np.hstack([places, np.cos(9 * places)]).astype(np.float32))
    config = replace(CONFIG, horizon=1, updates=300, learning_rate=3e-3, discount=0.9)
    # Here every way is the only one: there is no best to lean towards.
    subject = trainer(data, config, IqlFlowConfig(hidden=(64, 64), expectile=0.5, target_rate=0.05))
    for _ in range(300):
        subject.update()
    rows = np.array([(row, goal) for row in range(0, 30, 3) for goal in range(row, 39, 3)])
    states = torch.from_numpy(np.hstack([data.observations[rows[:, 0]], data.observations[rows[:, 1]]]))
    values = subject.algorithm.critic(states, torch.zeros(len(rows), 2)).mean(dim=1)[0].detach().numpy()
    steps = rows[:, 1] - rows[:, 0]
    assert np.corrcoef(values, -(1 - 0.9**steps) / 0.1)[0, 1] > 0.85
    np.testing.assert_allclose(values[steps == 0], 0.0, atol=1.0)


def test_goals_without_discounting_are_refused() -> None:
    with pytest.raises(TrainingError, match="discount 1 with goal_conditioned was given"):
        replace(CONFIG, discount=1.0)
