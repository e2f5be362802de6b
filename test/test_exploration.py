"""`make test` repeats itself; `make test-all` draws other and more examples of every property, and remembers what failed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import exploration
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_quick_profile_repeats_itself_and_remembers_nothing() -> None:
    project = settings.get_profile("project")
    assert project.derandomize
    assert project.database is None


def test_exploring_draws_more_and_others_says_how_to_repeat_them_and_remembers_what_failed() -> None:
    explore = settings.get_profile("explore")
    assert not explore.derandomize
    assert explore.max_examples == exploration.MORE * settings.get_profile("project").max_examples
    assert explore.print_blob
    assert explore.database is not None
    folder = exploration.DATABASE
    assert subprocess.run(["git", "check-ignore", "--quiet", folder], cwd=ROOT).returncode in (
        0,
        128,
    )  # 128: no checkout
    assert folder.relative_to(ROOT).parts[0] == ".hypothesis"


def test_the_whole_suite_explores_and_the_quick_one_does_not() -> None:
    recipes = dict(re.findall(r"^(test|test-all):.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "--hypothesis-profile=explore" in recipes["test-all"]
    assert "hypothesis" not in recipes["test"]


def test_a_property_with_a_number_of_its_own_is_tried_more_often_when_exploring() -> None:
    more = 1 if settings.default.derandomize else exploration.MORE
    assert exploration.examples(30).max_examples == 30 * more
    fixed = re.compile(r"max_examples\s*=")
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "test").rglob("*.py")}
    allowed = {Path(exploration.__file__), Path(__file__)}
    assert [path.name for path, text in texts.items() if fixed.search(text) and path not in allowed] == []
