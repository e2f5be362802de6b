"""What the page shows, told by hand what was heard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_sim.dashboard.state import CURVES, ERROR, OK, PATIENCE, TICKS, WARN, PageState

STEP = 50_000_000  # [ns]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> PageState:
    return PageState(clock)


def figures(**values: object) -> dict[str, str]:
    """Telemetry as the node writes it: numbers as text."""
    return {
        name: str(value) for name, value in {**dict.fromkeys(CURVES, 1.0), "guidance_weight": 0.1, **values}.items()
    }


def outcome(success: bool | None = True, **values: object) -> dict[str, object]:
    return {"episode": 1, "task": 2, "seed": 7, "success": success, "length": 60, "late_commands": 0, **values}


def test_curves_are_over_time_since_the_first_tick(state: PageState) -> None:
    for i in range(3):
        state.tick(10**18 + i * STEP, figures(q=-i, latency_ms=2.5))
    view = state.view()
    assert view.curves["q"] == pytest.approx(np.array([[0.0, 0.05, 0.1], [0.0, -1.0, -2.0]]))
    assert view.curves["latency_ms"][1].tolist() == [2.5, 2.5, 2.5]


def test_where_nothing_was_measured_a_curve_has_a_gap_and_goes_on_in_time(state: PageState) -> None:
    state.tick(0, figures(q="inf"))
    state.tick(STEP, figures(q=3.0))
    row = figures()
    del row["q"]
    state.tick(2 * STEP, row)
    view = state.view()
    assert view.curves["q"] == pytest.approx(np.array([[0.0, 0.05, 0.1], [np.nan, 3.0, np.nan]]), nan_ok=True)
    assert np.isfinite(view.curves["gradient_norm"]).all()


def test_curves_begin_anew_when_time_falls_back(state: PageState) -> None:
    state.tick(100 * STEP, figures(q=1.0))
    state.tick(5 * STEP, figures(q=2.0))
    assert state.view().curves["q"].tolist() == [[0.0], [2.0]]


def test_curves_are_bounded(state: PageState) -> None:
    for i in range(TICKS + 10):
        state.tick(i * STEP, figures(q=i))
    assert state.view().curves["q"][1].tolist() == list(range(10, TICKS + 10))


def test_an_empty_page_has_empty_curves(state: PageState) -> None:
    view = state.view()
    assert all(curve.shape == (2, 0) for curve in view.curves.values())
    assert view.success_rate.shape == (1, 0)
    assert (view.episodes, view.successes, view.simulated) == ((), (), False)


def test_a_node_is_seen_then_lost_then_seen(state: PageState, clock: Clock) -> None:
    assert state.view().links["policy node"].level == WARN
    assert state.status(OK, "commanding", {})
    assert state.view().links["policy node"].text == "commanding"
    clock.now += PATIENCE
    assert not state.status(ERROR, "holding: field joint_position", {})
    assert state.view().links["policy node"].level == ERROR
    clock.now += PATIENCE + 1.0
    lost = state.view().links["policy node"]
    assert (lost.level, lost.text) == (ERROR, "lost, silent for 4 s")
    assert state.status(OK, "commanding", {}), "it is new again"


@pytest.mark.parametrize(
    ("known", "said", "unread"),
    [
        (0.04, "0.04", False),
        (1, "1.0", False),
        (2**53 + 1, str(2**53 + 1), False),  # a seed that no float is
        ("task1", "task1", False),
        ("", "task1", False),
        (0.041, "0.04", True),
        ("task1", "task2", True),
    ],
)
def test_parameters_are_read_again_when_the_node_says_otherwise(
    state: PageState, known: object, said: str, unread: bool
) -> None:
    state.status(OK, "commanding", {})
    state.parameters({"name": known, "another": 7})
    assert state.status(OK, "commanding", {"name": said}) is unread


def test_parameters_that_leave_the_choice_to_the_node_are_not_contradicted_by_it(state: PageState) -> None:
    left = {
        "guidance_weight": 0.3,
        "use_recommended_weight": True,
        "execution_horizon": 0,
        "critic": "",
        "estimator": "qgf",
    }
    chosen = {"guidance_weight": "0.04", "execution_horizon": "2", "critic": "task1", "estimator": "classifier_free"}
    state.status(OK, "commanding", {})
    state.parameters(left)
    assert not state.status(OK, "commanding", chosen)
    for name, value in (
        ("use_recommended_weight", False),
        ("execution_horizon", 1),
        ("critic", "task2"),
        ("estimator", "bptt"),
    ):
        state.parameters({**left, name: value})
        assert state.status(OK, "commanding", chosen), name


@pytest.mark.parametrize(("stopped", "level"), [("1", ERROR), ("0", WARN)])
def test_a_robot_that_is_stopped_is_red_until_it_is_resumed(state: PageState, stopped: str, level: int) -> None:
    state.status(WARN, "stopped: by ~/hold", {"stopped": stopped})
    link = state.view().links["policy node"]
    assert (link.level, link.text) == (level, "stopped: by ~/hold")


def test_telemetry_goes_stale(state: PageState, clock: Clock) -> None:
    state.tick(0, figures(tick=41))
    assert state.view().links["telemetry"].text == "tick 41"
    clock.now += PATIENCE + 2.0
    stale = state.view().links["telemetry"]
    assert (stale.level, stale.text) == (WARN, "stale, the last tick was 5 s ago")


def test_no_bridge_is_no_fault_but_a_lost_one_is(state: PageState, clock: Clock) -> None:
    assert state.view().links["bridge"].level == OK
    assert state.bridge() and not state.bridge()
    assert state.view().simulated
    clock.now += PATIENCE + 1.0
    assert state.view().links["bridge"].level == ERROR
    assert state.view().simulated
    assert state.bridge()


def episode(state: PageState, start: int, weights: list[float], success: bool) -> int:
    """Run an episode whose ticks have these weights, and return when the next one may begin."""
    for i, weight in enumerate(weights):
        state.tick(start + i * STEP, figures(guidance_weight=weight))
    state.episode(outcome(success, seed=start))
    return start + len(weights) * STEP + 10**9


def test_an_episode_has_the_weight_of_its_ticks(state: PageState) -> None:
    start = episode(state, 0, [0.0] * 3, False)
    start = episode(state, start, [0.1] * 3, True)
    episode(state, start, [0.1, 0.1, 0.5], True)
    weights = [row.guidance_weight for row in state.view().episodes]
    assert math.isnan(weights[0])
    assert weights[1:] == [0.1, 0.0]


def test_telemetry_after_the_outcome_still_belongs_to_the_episode_before(state: PageState) -> None:
    state.tick(0, figures(guidance_weight=0.0))
    state.episode(outcome())
    state.tick(STEP, figures(guidance_weight=0.0))
    episode(state, 10**9 + STEP, [0.2], True)
    assert [row.guidance_weight for row in state.view().episodes] == [0.2, 0.0]


def test_success_is_counted_by_weight_with_its_interval(state: PageState) -> None:
    start = 0
    for weight, success in ((0.0, False), (0.1, True), (0.0, False), (0.1, True)):
        start = episode(state, start, [weight], success)
    view = state.view()
    assert [(s.guidance_weight, s.successes, s.episodes) for s in view.successes] == [(0.0, 0, 2), (0.1, 2, 2)]
    # Wilson's interval of 2 of 2 is [n / (n + z^2), 1].
    assert view.successes[1].interval == pytest.approx((2 / (2 + 1.959964**2), 1.0), abs=1e-6)


def test_the_success_rate_of_each_weight_stays_where_its_last_episode_left_it(state: PageState) -> None:
    start = 0
    for weight, success in ((0.0, False), (0.1, True), (0.0, True), (0.1, False)):
        start = episode(state, start, [weight], success)
    expected = [[1, 2, 3, 4], [0, 0, 1 / 2, 1 / 2], [np.nan, 1, 1, 1 / 2]]
    assert state.view().success_rate == pytest.approx(np.array(expected), nan_ok=True)


def test_replayed_episodes_are_listed_and_not_counted(state: PageState) -> None:
    state.episode(outcome(None))
    view = state.view()
    assert view.episodes[0].success is None
    assert view.successes == ()
    assert view.success_rate.shape == (1, 0)


@pytest.mark.parametrize("change", [{"task": "<b>"}, {"seed": None}, {"length": math.inf}])
def test_an_outcome_that_is_none_is_refused_and_leaves_the_page_as_it_was(
    state: PageState, change: dict[str, object]
) -> None:
    with pytest.raises((OverflowError, TypeError, ValueError)):
        state.episode(outcome(**change))
    with pytest.raises(KeyError):
        state.episode({})
    assert (state.view().episodes, state.version) == ((), 0)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2]), st.booleans()), max_size=40))
def test_the_last_point_of_each_success_rate_is_the_share_at_its_weight(episodes: list[tuple[float, bool]]) -> None:
    state, start = PageState(), 0
    for weight, success in episodes:
        start = episode(state, start, [weight], success)
    view = state.view()
    assert view.success_rate[0].tolist() == list(range(1, len(episodes) + 1))
    for at_weight, rates in zip(view.successes, view.success_rate[1:], strict=True):
        own = [success for weight, success in episodes if weight == at_weight.guidance_weight]
        assert rates[-1] == pytest.approx(sum(own) / len(own))


def test_what_the_node_chose_stands_in_for_a_word_that_leaves_it_the_choice(state: PageState) -> None:
    assert state.value("guidance_weight") is None
    left = {"guidance_weight": 0.0, "use_recommended_weight": True, "execution_horizon": 0, "critic": ""}
    state.parameters({**left, "estimator": "qgf"})
    assert state.value("guidance_weight") is None
    chosen = {"guidance_weight": "0.04", "critic": "task1", "execution_horizon": "2", "estimator": "classifier_free"}
    state.status(OK, "commanding", chosen)
    assert (state.value("guidance_weight"), state.value("critic")) == (0.04, "task1")
    assert state.value("execution_horizon") == 2
    assert state.value("estimator") == "classifier_free"
    state.parameters({"guidance_weight": 0.2, "use_recommended_weight": False, "execution_horizon": 1})
    assert state.value("guidance_weight") == 0.2
    assert state.value("execution_horizon") == 1


def test_the_version_grows_with_ticks_and_episodes_alone(state: PageState) -> None:
    before = state.version
    state.notice(OK, "reset: done")
    state.status(OK, "commanding", {})
    assert state.version == before
    state.tick(0, figures())
    state.episode(outcome())
    assert state.version == before + 2
