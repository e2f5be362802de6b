"""`qgf train` says what it trains on, and what it was given where that is no data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from qgf_ros.cli import main


def arrays_of(**change: object) -> dict[str, object]:
    """Ten episodes of twenty rows."""
    row, last = np.arange(200, dtype=np.float32), np.arange(200) % 20 == 19
    arrays = {"observations": row[:, None] / 100, "actions": np.sin(row)[:, None], "terminals": last}
    return {**arrays, "rewards": last.astype(np.float32), "masks": 1.0 - last, **change}


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (
            {"next_observations": np.arange(200)[:, None] + 0.5},
            [],
            ["note: after 190 rows that no key", "400 rows, solved in task 5.00% of 200 chunks; horizon 1"],
        ),
        (
            {},
            [],
            ["note: masks is 0 on last rows of trajectories only", "200 rows, solved in task 0.00% of 190 chunks"],
        ),
        ({"timeouts": np.zeros(200)}, [], ["210 rows, solved in task 5.00% of 200 chunks"]),
        ({"timeouts": np.zeros(200)}, ["--horizon", "5"], ["210 rows, solved in task 6.25% of 160 chunks; horizon 5"]),
        ({"timeouts": np.zeros(200)}, ["--goal-conditioned"], ["200 rows, goals in hindsight"]),
        ({"masks": np.ones(200)}, [], ["200 rows, solved in task 0.00% of 190 chunks"]),
    ],
)
def test_what_is_trained_on_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], options: list[str], says: list[str]
) -> None:
    np.savez(tmp_path / "d.npz", **arrays_of(**change))  # type: ignore[arg-type]
    options = [*options, "--smoke", "--threads", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", str(tmp_path / "d.npz"), *options]) == 0
    printed = capsys.readouterr().out
    assert [sentence for sentence in says if sentence not in printed] == []
    assert printed.count("note:") == sum("note:" in sentence for sentence in says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"observations": np.zeros((200, 2))},
            "d-val.npz has observations of size 2 and actions of size 1, the data set 1 and 1",
        ),
        ({"actions": np.zeros((200, 3))}, "d-val.npz has observations of size 1 and actions of size 3"),
        (
            {"action_normalisation": np.array('[["a0", 2.0, 0.0]]')},
            "or they were scaled otherwise; make both in one way",
        ),
        ({"masks": np.full(200, 2.0)}, "d-val.npz: masks holds 2.0"),
    ],
)
def test_a_validation_file_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], says: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays_of())  # type: ignore[arg-type]
    np.savez(tmp_path / "d-val.npz", **arrays_of(**change))  # type: ignore[arg-type]
    assert main(["train", "--dataset", str(tmp_path / "d.npz"), "--out", str(tmp_path / "run"), "--smoke"]) == 2
    assert says in capsys.readouterr().err


def test_a_validation_file_without_rewards_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "d.npz", **arrays_of())  # type: ignore[arg-type]
    bare = {key: array for key, array in arrays_of().items() if key not in ("rewards", "masks")}
    np.savez(tmp_path / "d-val.npz", **bare)  # type: ignore[arg-type]
    assert main(["train", "--dataset", str(tmp_path / "d.npz"), "--out", str(tmp_path / "run"), "--smoke"]) == 2
    assert "d-val.npz: the data set has no rewards and no masks" in capsys.readouterr().err


def test_a_folder_of_another_format_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pusht" / "meta").mkdir(parents=True)
    (tmp_path / "pusht" / "meta" / "info.json").write_text("{}")
    assert main(["train", "--dataset", str(tmp_path / "pusht"), "--out", str(tmp_path / "run")]) == 2
    assert "pusht is a LeRobot data set (meta/info.json), which is not read yet" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
