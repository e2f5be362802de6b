"""Every rate and interval in the tables of README, evaluation.md and comparison.md is that of the committed data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from committed_numbers import KINDS, known_rates, rate
from documented_tables import _NUMBER, DocumentedTable, numbers, tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "evaluation.md", ROOT / "docs" / "comparison.md"]
TABLES = [table for page in PAGES for table in tables(page) if table.measured or "table:" in table.comment]


def named(table: DocumentedTable) -> str:
    return f"{table.page.name}:{table.line}"


def test_the_pages_have_tables_of_measured_numbers() -> None:
    assert {table.page for table in TABLES} == set(PAGES)


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_a_table_says_what_the_committed_data_say(table: DocumentedTable) -> None:
    assert table.complaints(KINDS) == []


def planted(table: DocumentedTable) -> Iterator[tuple[str, DocumentedTable]]:
    """The table with one of its numbers replaced, each in turn."""
    for number, row in enumerate(table.rows):
        for place, cell in enumerate(row):
            hidden = re.sub(r"\]\([^)]*\)", lambda link: " " * len(link[0]), cell)
            for found in _NUMBER.finditer(hidden):
                other = re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), found[0])
                changed = [*row]
                changed[place] = cell[: found.start()] + other + cell[found.end() :]
                rows = (*table.rows[:number], changed, *table.rows[number + 1 :])
                yield f"{cell} -> {changed[place]}", replace(table, rows=rows)


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_a_planted_error_in_any_number_of_a_table_is_found(table: DocumentedTable) -> None:
    errors = dict(planted(table))
    assert errors
    assert [what for what, wrong in errors.items() if not wrong.complaints(KINDS)] == []


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_a_row_that_is_missing_or_there_twice_is_found_where_all_are_wanted(table: DocumentedTable) -> None:
    assert replace(table, rows=(*table.rows, table.rows[-1])).complaints(KINDS)
    if "bundles" not in table.comment and table.rows[-1][0] != "all":
        assert replace(table, rows=table.rows[:-1]).complaints(KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_rate_with_its_interval_is_one_of_the_committed_data_in_the_text_too(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").replace("**", "").split())
    said = re.findall(r"(?<![\d.])\d+(?:\.\d+)? % \[\d+(?:\.\d+)?, \d+(?:\.\d+)?\]", text)
    assert said
    assert set(said) <= known_rates(ROOT / "docs" / "results")


def test_a_table_without_a_source_or_of_no_kind_is_refused() -> None:
    table = replace(TABLES[0], comment="")
    assert "no comment says which data" in table.complaints(KINDS)[0]
    table = replace(TABLES[0], comment="<!-- table: guesses, of docs/results/scene.json -->")
    assert "there is no kind of table guesses" in table.complaints(KINDS)[0]


def test_a_table_of_rates_is_told_from_one_of_words(tmp_path: Path) -> None:
    text = "| a | b |\n|---|---|\n| x | {} |\n"
    for cell, measured in (("5 %", True), ("3/8", True), ("[1, 2]", True), ("1.6 ms", False), ("[1](a/2)", False)):
        (table,) = tables(tmp_path / "page.md", text.format(cell))
        assert table.measured == measured


def test_numbers_are_read_without_links_names_and_plus_signs() -> None:
    assert numbers("+4 [-10, +2] of 1,000 at `cube-single-2` ([3](a5.md)), 0.30") == [
        "4",
        "-10",
        "2",
        "1000",
        "3",
        "0.30",
    ]
    assert rate(5, 60) == "8 % [4, 18]"
