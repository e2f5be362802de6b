"""Files that take long are begun first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from order import LONGEST, ROOT, longest_first


def test_every_file_that_is_begun_early_is_there_once() -> None:
    assert len(set(LONGEST)) == len(LONGEST)
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []


def test_long_files_come_first_then_those_of_many_tests_and_each_stays_whole_and_in_its_order() -> None:
    few, many, long = (ROOT / name for name in ("test_few.py", "test_many.py", LONGEST[-1]))
    longest = ROOT / LONGEST[0]
    sizes: list[tuple[Path, int]] = [(few, 1), (long, 1), (many, 3), (longest, 2)]
    items = [SimpleNamespace(path=path, number=number) for path, count in sizes for number in range(count)]
    assert [(item.path, item.number) for item in longest_first(items)] == [
        (longest, 0),
        (longest, 1),
        (long, 0),
        (many, 0),
        (many, 1),
        (many, 2),
        (few, 0),
    ]
