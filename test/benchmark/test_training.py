"""Times of an update are compared only where it is the same update."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.benchmark import training as update_benchmark
from qgf_ros.benchmark.training import UpdatePlan, measure
from qgf_ros.errors import TrainingError
from qgf_ros.learning.trainer import Trainer

TINY = UpdatePlan(
    ("2x16",), ("torch",), tasks=2, observation=7, action=2, horizon=3, batch=16, threads=1, rounds=2, updates=3
)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_benchmark.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(update_benchmark.torch, "set_num_threads", lambda count: None)


def changed(**values: Any) -> UpdatePlan:
    return UpdatePlan(**{**vars(TINY), **values})


def test_every_update_is_recorded() -> None:
    notes: list[str] = []
    (result,) = measure(TINY, notes.append)["results"]
    assert notes == ["2x16, torch: agrees", "timing", "timing"]
    assert [len(turn) for turn in result["rounds_ms"]] == [3, 3]
    assert (result["difference"], result["ratio"]) == (0.0, None)


def test_jax_takes_the_same_updates() -> None:
    pytest.importorskip("jax", reason="the peer needs the peers extra")
    ours, theirs = measure(changed(backends=("torch", "jax")))["results"]
    assert 0.0 < theirs["difference"] < update_benchmark.TOLERANCE
    assert ours["ratio"] > 0.0
    assert theirs["ratio"] == 1.0


def test_an_update_of_other_losses_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Trainer._report
    calls = []

    def wrong(self: Trainer, losses: Any) -> dict[str, float]:
        calls.append(1)
        first = report(self, losses)
        return {**first, "flow": first["flow"] * (1.0 + 1e-3 * (len(calls) > update_benchmark.CHECKED))}

    monkeypatch.setattr(Trainer, "_report", wrong)
    with pytest.raises(TrainingError, match=r"torch: a loss differs .* not the same update"):
        measure(changed(backends=("torch", "torch")))


@pytest.mark.parametrize("changes", [{"shapes": ("big",)}, {"shapes": ("0x5",)}, {"backends": ("numpy",)}])
def test_what_cannot_be_timed_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="was given; expected shapes such as 3x256"):
        changed(**changes)
