"""Numbers on their way to JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qgf_ros.reports.numbers import mean_and_error, plain, write_json


def test_numpy_tuples_and_missing_values_become_json(tmp_path: Path) -> None:
    numbers = {"a": np.array([1.0, np.nan]), "b": (1, True, "x"), 3: np.float32(0.1), "c": {"d": np.int64(7)}}
    path = tmp_path / "new" / "numbers.json"
    write_json(path, numbers)
    assert json.loads(path.read_text()) == {"a": [1.0, None], "b": [1, True, "x"], "3": 0.1, "c": {"d": 7}}
    assert '"a": [1.0, null]' in path.read_text()


def test_floats_keep_six_significant_digits() -> None:
    assert plain([123456.789, 1.23456789e-9, float("inf")]) == [123457.0, 1.23457e-09, None]


def test_mean_comes_with_its_interval() -> None:
    # Standard deviation 1 over 4 rows: 1.96 / 2.
    rows = np.array([1.0, 1.0, 3.0, 3.0]) * np.sqrt(0.75)
    summary = mean_and_error(rows)
    assert summary["mean"] == pytest.approx(2.0 * np.sqrt(0.75))
    assert summary["error"] == pytest.approx(1.959964 / 2.0)
    assert np.isnan(mean_and_error(np.array([1.0]))["error"])
    assert np.isnan(mean_and_error(np.array([]))["mean"])
