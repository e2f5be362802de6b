"""Every measured number in the tables of four pages, and every percentage in their text, is that of the committed data; so are
the tables of two more that say which data they are of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from committed_numbers import RESULTS, known_rates, rate
from comparison_numbers import COMPARISON
from documented_prose import paragraphs
from documented_tables import _NUMBER, DocumentedTable, numbers, tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("evaluation", "comparison", "training"))]
MORE = [ROOT / "docs" / f"{name}.md" for name in ("training_algorithms", "cameras")]
KINDS = RESULTS | COMPARISON
#: Of training and of these two those that say so; their other tables are no results, though there are ranges in them.
TABLES = [
    table
    for page in [*PAGES, *MORE]
    for table in tables(page)
    if "table:" in table.comment or (table.measured and page not in MORE and page.name != "training.md")
]


def named(table: DocumentedTable) -> str:
    return f"{table.page.name}:{table.line}"


def test_the_pages_have_tables_of_measured_numbers() -> None:
    assert {table.page for table in TABLES} == {*PAGES, *MORE}


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_a_table_says_what_the_committed_data_say(table: DocumentedTable) -> None:
    assert table.complaints(KINDS) == []


def test_a_tuning_of_weights_and_candidates_has_a_row_for_each_number_of_candidates(tmp_path: Path) -> None:
    def run(weight: float, candidates: int, solved: int) -> dict[str, object]:
        settings = {} if candidates == 1 else {"num_samples": candidates}
        return {"guidance_weight": weight, "settings": settings, "successes": solved, "episodes": 20}

    tried = [run(0.0, 1, 1), run(0.01, 1, 7), run(0.0, 32, 18), run(0.01, 32, 17)]
    (tmp_path / "mine.json").write_text(json.dumps({"tasks": [{"task": 2, "choosing": tried}]}))
    page = """<!-- table: combinations, of mine.json -->
| task | candidates | 0 | 0.01 |
|---|---|---|---|
| 2 | 1 | 1/20 | 7/20 |
| 2 | 32 | 18/20 | 17/20 |
"""
    (table,) = tables(tmp_path / "page.md", page)
    assert table.complaints(KINDS) == []
    (wrong,) = tables(tmp_path / "page.md", page.replace("18/20", "19/20"))
    assert wrong.complaints(KINDS) == ["page.md:5, 0: '19/20', the data say '18/20'"]


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
    assert said or page.name == "training.md"
    assert set(said) <= known_rates((ROOT / "docs" / "results").rglob("*.json"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_percentage_in_the_text_is_of_the_data_that_its_paragraph_names_or_cited(page: Path) -> None:
    found = list(paragraphs(page))
    assert found
    assert [complaint for paragraph in found for complaint in paragraph.complaints()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_planted_error_in_any_percentage_of_the_text_is_found(page: Path) -> None:
    for paragraph in paragraphs(page):
        for share, _ in paragraph.percentages if "cited" not in paragraph.comment else ():
            other = re.sub(r"\d$", lambda digit: str((int(digit[0]) + 1) % 10), share)
            text = re.sub(rf"(?<![\d.]){re.escape(share)}(?![\d.])", other, paragraph.text)
            assert replace(paragraph, text=text).complaints(), f"{share} -> {other}"


def test_a_percentage_without_a_source_or_cited_without_an_address_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for mark, said in (
        ("", "no comment says which data 12 % is of"),
        ("<!-- cited -->\n", "cites 12 % and gives no address"),
    ):
        (paragraph,) = paragraphs(page, f"# 5 %\n\n{mark}It reaches 12 %.\n\n    qgf --share 7 %\n")
        assert [said in complaint for complaint in paragraph.complaints()] == [True]
    (paragraph,) = paragraphs(page, "<!-- cited -->\nOthers reach 12 % ([theirs](https://example.org)).\n")
    assert paragraph.complaints() == []
    (paragraph,) = paragraphs(page, "With 95 % Wilson intervals;\nintervals are 95 %.\n")
    assert (paragraph.percentages, paragraph.complaints()) == ([], [])


def test_percentages_are_read_one_by_one_and_with_their_intervals(tmp_path: Path) -> None:
    (paragraph,) = paragraphs(tmp_path / "page.md", "Of 20, 35, 29 and\n16.5 %, or **9 % [5, 15]**.\n")
    assert paragraph.percentages == [("20", ""), ("35", ""), ("29", ""), ("16.5", ""), ("9", "[5, 15]")]


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
