"""What the documentation tells a reader to type is accepted by the program."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qgf_ros import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Every indented `qgf …` line of the documentation, continuation lines joined, comments dropped."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += [line.split("#")[0].strip() for line in re.findall(r"^ {4}(qgf .*)$", text, flags=re.MULTILINE)]
    return sorted(set(found))


def test_the_documentation_shows_commands() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def recorder(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def record(*args: Any, **kwargs: Any) -> None:
            called.append(name)

        return record

    monkeypatch.setattr(cli, "COMMANDS", {name: recorder(name, original) for name, original in cli.COMMANDS.items()})
    words = shlex.split(command)
    assert cli.main(words[1:]) == 0
    assert called == [words[1]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def sections(page: Path) -> set[str]:
    """The names under which the headings of a page are linked to; code is no heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_section_lead_to_one(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").splitlines())
    targets = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text)
    known = {file: sections(page.parent / file if file else page) for file, _ in targets}
    assert [f"{file}#{name}" for file, name in targets if name not in known[file]] == []
