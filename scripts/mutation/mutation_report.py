"""The table of a draw, its survivors, and what is known about those that no test can kill."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkItem
from mutation_areas import AREAS

_TABLE = re.compile(r"(<!-- mutants -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_HEADINGS = ("area", "modules", "drawn", "killed", "by a hang", "survived", "explained", "killed [%]")


class MutationReport:
    """What came out of the mutants of some areas.

    Args:
        drawn: The mutants of each area.
        results: Where results are kept; mutants that were not tested yet are left out.
        explained: A file with a list of mutants that change nothing: ``module``, ``was`` and ``became`` as in the
            difference, and ``why``.
    """

    def __init__(self, drawn: Mapping[str, Sequence[WorkItem]], results: WorkDB, explained: Path) -> None:
        known = dict(results.results)
        whys = {
            (entry["module"], entry["was"], entry["became"]): entry["why"]
            for entry in yaml.safe_load(explained.read_text(encoding="utf-8")) or []
        }
        self.areas: dict[str, dict[str, Any]] = {}
        for area, items in drawn.items():
            tested = [(item.mutations[0], known[item.job_id]) for item in items if item.job_id in known]
            killed = [result for _, result in tested if result.test_outcome is TestOutcome.KILLED]
            survivors = []
            for mutation, result in tested:
                if result.test_outcome is TestOutcome.SURVIVED:
                    module, diff = mutation.module_path.as_posix(), result.diff or ""
                    survivor = {"module": module, "line": mutation.start_pos[0], "definition": mutation.definition_name}
                    why = whys.get((module, *_sides(diff)))
                    survivors.append({**survivor, "difference": diff.splitlines(), **({"why": why} if why else {})})
            self.areas[area] = {
                "modules": list(AREAS[area]),
                "drawn": len(tested),
                "killed": len(killed),
                "hanging": sum(result.output == "a hang" for result in killed),
                "survivors": survivors,
                "mutants": [
                    f"{mutation.module_path.as_posix()}:{mutation.start_pos[0]} {mutation.operator_name.partition('/')[2]}: "
                    + (result.output or "survived")
                    for mutation, result in tested
                ],
            }

    def table(self) -> str:
        """Return the table of the areas as Markdown."""
        lines: list[Sequence[str]] = [_HEADINGS, ("---",) * len(_HEADINGS)]
        for area, found in self.areas.items():
            names = ", ".join(f"`{pattern.removeprefix('qgf_ros/')}`" for pattern in found["modules"])
            drawn, killed = found["drawn"], found["killed"]
            share = f"{100.0 * killed / drawn:.0f}" if drawn else ""
            explained = sum("why" in survivor for survivor in found["survivors"])
            numbers = (*map(str, (drawn, killed, found["hanging"], drawn - killed, explained)), share)
            lines.append((area, names, *numbers))
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def survivors(self) -> str:
        """Return each survivor with its place and difference, and why it changes nothing where that is known."""
        return "\n".join(_paragraph(survivor) for found in self.areas.values() for survivor in found["survivors"])

    def write(self, folder: Path, page: Path, seed: int, command: str) -> None:
        """Write the data to ``mutation.json`` of a folder, with what killed each mutant, and the table into a page."""
        folder.mkdir(parents=True, exist_ok=True)
        versions = {"python": platform.python_version(), "cosmic-ray": version("cosmic-ray")}
        content = {"seed": seed, "command": command, "versions": versions, "areas": self.areas}
        (folder / "mutation.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        text = page.read_text(encoding="utf-8")
        page.write_text(_TABLE.sub(lambda found: f"{found[1]}{self.table()}{found[3]}", text), encoding="utf-8")


def _sides(diff: str) -> tuple[str, str]:
    """Return what a difference takes away and what it puts there, without indentation."""
    lines: Iterable[str] = diff.splitlines()
    return tuple(" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")  # type: ignore[return-value]


def _paragraph(survivor: Mapping[str, Any]) -> str:
    why = f"  {survivor['why']}\n" if "why" in survivor else ""
    difference = "".join(f"    {line}\n" for line in survivor["difference"])
    return f"{survivor['module']}:{survivor['line']} in {survivor['definition'] or 'the module'}\n{difference}{why}"
