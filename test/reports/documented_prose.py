"""The percentages in the text of the documentation, and how they are held to the data that they are of.

Above each paragraph with a percentage stands a comment that says where it comes from, relative to its page:
`<!-- numbers of results/scene.json -->` for what committed data yield (with `#all` behind the name, for what a tuning yields over
all its tasks), or `<!-- cited -->` for what others have published, whose address the paragraph then gives. A confidence level,
such as 95 % intervals, is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from committed_numbers import known_rates, rates_of_all_tasks

_MARK = re.compile(r"<!-- (?:(?P<cited>cited)|numbers of (?P<files>[^>]+?)) -->")
_LEVEL = re.compile(r"95 % (?:Wilson )?intervals?|intervals are 95 %")
#: One, or several of a list such as `35, 29 and 16 %`; with its interval, if it has one.
_PERCENTAGES = re.compile(r"(?<![\w.])(\d[\d.]*(?:(?:, | and | or | to |/)\d[\d.]*)*) ?%(?: (\[[\d.]+, [\d.]+\]))?")
#: Not text: headings, pictures, tables, code and comments.
_OTHER = re.compile(r"#|!\[|\||<!--| {4}\S")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a page.

    Attributes:
        page: Where it stands.
        line: Its first one, from 1.
        comment: The line above it, "" if that is empty.
        text: Its lines, joined.
    """

    page: Path
    line: int
    comment: str
    text: str

    @property
    def percentages(self) -> list[tuple[str, str]]:
        """Each percentage with its interval, or ""."""
        text = _LEVEL.sub("", self.text.replace("**", ""))
        found = [(re.split(r", | and | or | to |/", many), interval) for many, interval in _PERCENTAGES.findall(text)]
        return [(share, interval if share is shares[-1] else "") for shares, interval in found for share in shares]

    def complaints(self) -> list[str]:
        """Return what is wrong with it, a sentence each."""
        place, said = f"{self.page.name}:{self.line}", self.percentages
        mark = _MARK.fullmatch(self.comment)
        if mark is None:
            return [f"{place}: no comment says which data {share} % is of" for share, _ in said]
        if not said:
            return [f"{place}: a comment says which data the percentages are of, and there are none"]
        if mark["cited"]:
            return [] if "](http" in self.text else [f"{place}: cites {said[0][0]} % and gives no address"]
        known = {one for name in mark["files"].split(", ") for one in _known(self.page.parent, name)}
        shares = {rate.split(" ")[0] for rate in known}
        wrong = [share for share, interval in said if not interval and share not in shares]
        wrong += [rate for share, interval in said if interval and (rate := f"{share} % {interval}") not in known]
        return [f"{place}: {one.removesuffix(' %')} % is not in {mark['files']}" for one in wrong]


@cache
def _known(folder: Path, name: str) -> frozenset[str]:
    file, _, part = name.partition("#")
    return frozenset(rates_of_all_tasks(folder / file) if part == "all" else known_rates([folder / file]))


def paragraphs(page: Path, text: str | None = None) -> Iterator[Paragraph]:
    """Yield every paragraph of a page, or of another text in its place."""
    lines = [*(page.read_text(encoding="utf-8") if text is None else text).splitlines(), ""]
    fenced, first = False, None
    for number, line in enumerate(lines):
        other = fenced or line.startswith("```") or not line or (first is None and _OTHER.match(line) is not None)
        if line.startswith("```"):
            fenced = not fenced
        if not other and first is None:
            first = number
        elif other and first is not None:
            above = lines[first - 1] if first else ""
            yield Paragraph(page, first + 1, above, " ".join(part.strip() for part in lines[first:number]))
            first = None
