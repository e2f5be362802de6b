"""The mutants of `make mutants`: drawn alike every time, where they change something, and killed by a test that notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="mutants need the dev extra")

ROOT = Path(__file__).resolve().parents[1]

TINY = '''"""A module."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many, Set

_log = logging.getLogger(__name__)


class Counter:
    def __init__(self) -> None:
        self.count: int | None = 0

    def __repr__(self) -> str:
        return "Counter" if self.count else "0" * 3

    def add(self, values: Many[float], most: int | None = None) -> float:
        _log.info("adding %d", len(values) + 1)
        if len(values) > 3:
            raise ValueError(f"{len(values) - 3} values too many")
        self.count = len(values)
        return 2.0 * sum(values)
'''

TESTS = """import pytest
from qgf_ros.tiny import Counter


def test_sums_are_doubled():
    assert Counter().add([1.0, 2.0]) == 6.0


def test_more_than_three_are_too_many():
    Counter().add([1.0] * 3)
    with pytest.raises(ValueError, match="1 values too many"):
        Counter().add([1.0] * 4)
"""

SCRIPT = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import forked_tests, line_tests, mutation_areas
from cosmic_ray.work_db import WorkDB, use_db
from mutant_draw import draw
from mutation_report import MutationReport
from mutation_run import MutationRun

original = Path(sys.argv[2])
mutation_areas.AREAS = {"tiny": ("qgf_ros/*.py",)}
mutation_areas.TESTS = ("tiny/test_*.py",)
forked_tests.LIBRARIES = ("coverage", "hypothesis", "pytest")
items = draw(original, "tiny", 100, 1)
again = draw(original, "tiny", 5, 1)
with use_db(str(original.parent / "results.sqlite"), WorkDB.Mode.create) as results:
    results.add_work_items(items)
    with MutationRun(original, 2) as run:
        tests = line_tests.LineTests(original, original.parent / "tests.json", 10.0)
        run.see(tests, print)
        run.test(items, tests, results, print)
    import mutation_report
    mutation_report.AREAS = mutation_areas.AREAS
    report = MutationReport({"tiny": items}, results, Path(sys.argv[3]))
print(json.dumps({"same": items[:5] == again, "stale": tests.stale(), **report.areas["tiny"]}))
"""


def test_a_mutant_survives_where_no_test_notices_it_and_the_code_is_left_alone(tmp_path: Path) -> None:
    original = tmp_path / "original"
    files = {"qgf_ros/__init__.py": "", "qgf_ros/tiny.py": TINY, "test/tiny/test_tiny.py": TESTS, "sim/__init__.py": ""}
    for name, text in files.items():
        (original / name).parent.mkdir(parents=True, exist_ok=True)
        (original / name).write_text(text)
    (tmp_path / "explained.yaml").write_text("[]")
    script = ROOT / "scripts" / "mutation"
    arguments = ["-c", SCRIPT, str(script), str(original), str(tmp_path / "explained.yaml")]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["same"]
    assert found["stale"] == []
    changed = [" ".join(line.strip("-+ ") for line in survivor["difference"]) for survivor in found["survivors"]]
    # Nobody looks at the count: it may begin as anything, and need not be kept.
    assert sorted(changed) == [
        "self.count = len(values) pass",
        "self.count: int | None = 0 pass",
        "self.count: int | None = 0 self.count: int | None = 1",
    ]
    # Beside these the condition, its comparison and its number, the error, the product and its number: nothing of
    # annotations, of the logger, of the representation or of the text of the error.
    assert (found["drawn"], found["killed"]) == (9, 6)
    assert (original / "qgf_ros" / "tiny.py").read_text() == TINY
