"""Which tests run a line of code, seen once and remembered while neither the tests nor the code that they run change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import parso
from cosmic_ray.work_item import MutationSpec
from mutation_areas import test_files

#: What it takes to load a file of tests [s].
LOADING = 0.3


class LineTests:
    """The tests by the lines that they run, in a file.

    Args:
        root: The checkout.
        path: Where they are remembered.
        budget: Processor time of the tests of one mutant [s], as measured under coverage.
    """

    def __init__(self, root: Path, path: Path, budget: float) -> None:
        self._root, self._path, self._budget = root, path, budget
        self._files: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def stale(self) -> list[str]:
        """Return the files of tests that have to be seen again."""
        files = test_files(self._root)
        self._files = {name: seen for name, seen in self._files.items() if name in files}
        return [name for name in files if self._files.get(name, {}).get("inputs") != self._inputs(name)]

    def remember(self, file: str, answer: Mapping[str, Any]) -> None:
        """Keep what was seen of a file of tests; tests that fail without a mutant can tell nothing about one."""
        good = {name: seconds for name, seconds in answer["seconds"].items() if name not in answer["failed"]}
        self._files[file] = {"seconds": good, "lines": {name: answer["lines"][name] for name in good}}
        self._files[file]["inputs"] = self._inputs(file)
        self._path.write_text(json.dumps(self._files), encoding="utf-8")

    def _inputs(self, file: str) -> str:
        """Return a digest of a file of tests, its helpers and the code that it is known to run."""
        helpers = [path for path in (self._root / file).parent.glob("*.py") if not path.name.startswith("test_")]
        lines = self._files.get(file, {}).get("lines", {})
        code = {self._root / module for seen in lines.values() for module in seen}
        digest = hashlib.sha256()
        for path in sorted({self._root / file, *helpers, *code}):
            digest.update(path.read_bytes() if path.exists() else b"")
        return digest.hexdigest()

    def choose(self, mutation: MutationSpec) -> dict[str, float]:
        """Return the tests for a mutant in the order in which to run them, each with its duration [s].

        First those that run its line, of them first those in a file named for its module, and the short before the long;
        then, while the budget lasts, others that run its module. What is run at import is run by all tests of a file of which
        one runs its module. Those of a file stay together.
        """
        module = mutation.module_path.as_posix()
        lines = _lines((self._root / module).read_text(encoding="utf-8"), mutation)
        ranked = []
        for file, seen in self._files.items():
            stranger = Path(file).stem != f"test_{mutation.module_path.stem}"
            imports = not lines and any(module in run for run in seen["lines"].values())
            for name, run in seen["lines"].items():
                if imports or module in run:
                    passes_by = bool(lines) and lines.isdisjoint(run[module])
                    ranked.append((passes_by, stranger, seen["seconds"][name], name))
        chosen, left = dict[str, float](), self._budget
        loaded: set[str] = set()
        for _, _, seconds, name in sorted(ranked):
            file = name.split("::", 1)[0]
            cost = seconds + (0.0 if file in loaded else LOADING)
            if cost <= left or not chosen:
                chosen[name], left = seconds, left - cost
                loaded.add(file)
        files = files_of(chosen)
        return {name: chosen[name] for file in files for name in chosen if name.startswith(f"{file}::")}


def _lines(text: str, mutation: MutationSpec) -> set[int]:
    """Return the lines of the simple statement that is mutated, or of a head's mutation; none for what is run at import."""
    node: Any = parso.parse(text).get_leaf_for_position(mutation.start_pos)
    statement, inside = None, False
    while node.parent is not None:
        if statement is None and node.parent.type in ("suite", "file_input"):
            statement = node
        inside = inside or (node.parent.type in ("funcdef", "lambdef") and node is node.parent.children[-1])
        node = node.parent
    if not inside or statement is None:
        return set()
    simple = statement.type == "simple_stmt"
    first, last = (statement.start_pos, statement.end_pos) if simple else (mutation.start_pos, mutation.end_pos)
    return set(range(first[0], last[0] + 1))


def files_of(names: Iterable[str]) -> list[str]:
    """Return the files of tests, each once, in the order of the tests."""
    return list(dict.fromkeys(name.split("::", 1)[0] for name in names))
