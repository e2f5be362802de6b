"""Mutants and their tests, in processes side by side; what came out is kept, and a run that was broken off goes on."""

from __future__ import annotations

import difflib
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from forked_tests import TestProcess, load_libraries
from line_tests import LineTests, files_of
from mutant_draw import mutated

_Job = TypeVar("_Job")
#: Of a run, what was in the way of it: no such test, or a mistake in how pytest was called. Never a mutant's doing.
_USAGE, _NO_TESTS, _BROKEN = 4, 5, 70


class MutationRun(AbstractContextManager["MutationRun"]):
    """Copies of the code, and processes in them.

    Args:
        root: The code without a mutant, in a folder beside which there is room; nothing is written to it.
        jobs: How many processes run side by side.
    """

    def __init__(self, root: Path, jobs: int) -> None:
        self._root = root
        self._copies = [root.parent / f"copy-{job}" for job in range(jobs)]
        self._running: dict[Path, tuple[Any, TestProcess]] = {}
        for copy in self._copies:
            shutil.copytree(root, copy, symlinks=True)
        load_libraries()

    def see(self, tests: LineTests, say: Callable[[str], None]) -> None:
        """See again which lines the tests run, where tests or code have changed."""

        def start(file: str, copy: Path) -> TestProcess:
            return TestProcess(copy, [file], None)

        def end(file: str, copy: Path, status: int, answer: dict[str, Any], log: str) -> None:
            if "lines" not in answer:
                raise RuntimeError(f"{file} could not be run without a mutant:\n{log}")
            tests.remember(file, answer)
            failed = f", {len(answer['failed'])} left out because they fail" if answer["failed"] else ""
            say(f"{file}: {len(answer['seconds'])} tests in {sum(answer['seconds'].values()):.1f} s{failed}")

        self._work(tests.stale(), start, end)

    def test(self, items: Iterable[WorkItem], tests: LineTests, results: WorkDB, say: Callable[[str], None]) -> None:
        """Test mutants, and keep what came out of each."""

        def start(item: WorkItem, copy: Path) -> TestProcess | None:
            order = tests.choose(item.mutations[0])
            if not order:
                self._keep(item, results, TestOutcome.SURVIVED, "no test runs its module", say)
                return None
            self._write(item.mutations[0], copy)
            return TestProcess(copy, files_of(order), order)

        def end(item: WorkItem, copy: Path, status: int, answer: dict[str, Any], log: str) -> None:
            module = item.mutations[0].module_path
            (copy / module).write_text((self._root / module).read_text(encoding="utf-8"), encoding="utf-8")
            if status in (_USAGE, _NO_TESTS, _BROKEN) and not answer.get("failed"):
                raise RuntimeError(f"the tests of {module} could not be run:\n{log}")
            outcome = TestOutcome.KILLED if status else TestOutcome.SURVIVED
            by = (
                "a hang"
                if status == -signal.SIGALRM
                else f"signal {-status}"
                if status < 0
                else "".join(answer["failed"][:1])
            )
            self._keep(item, results, outcome, by, say)

        self._work(items, start, end)

    def _write(self, mutation: MutationSpec, copy: Path) -> None:
        text = (self._root / mutation.module_path).read_text(encoding="utf-8")
        mutant = mutated(text, mutation.operator_name, mutation.occurrence)
        (copy / mutation.module_path).write_text(mutant, encoding="utf-8")

    def _keep(self, item: WorkItem, results: WorkDB, outcome: TestOutcome, by: str, say: Callable[[str], None]) -> None:
        mutation = item.mutations[0]
        text = (self._root / mutation.module_path).read_text(encoding="utf-8")
        diff = "\n".join(
            line
            for line in difflib.unified_diff(
                text.splitlines(),
                mutated(text, mutation.operator_name, mutation.occurrence).splitlines(),
                lineterm="",
                n=0,
            )
            if not line.startswith(("---", "+++", "@@"))
        )
        results.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, by, outcome, diff))
        say(f"{outcome.value} {mutation.module_path}:{mutation.start_pos[0]} by {by or 'nothing'}")
        if outcome is TestOutcome.SURVIVED:
            say(diff)

    def _work(
        self,
        jobs: Iterable[_Job],
        start: Callable[[_Job, Path], TestProcess | None],
        end: Callable[[_Job, Path, int, dict[str, Any], str], None],
    ) -> None:
        waiting = list(jobs)[::-1]
        while waiting or self._running:
            for copy in self._copies:
                if waiting and copy not in self._running:
                    job = waiting.pop()
                    process = start(job, copy)
                    if process is not None:
                        self._running[copy] = job, process
            for copy, (job, process) in list(self._running.items()):
                ended = process.poll()
                if ended is not None:
                    del self._running[copy]
                    end(job, copy, *ended, process.log.read_text(encoding="utf-8", errors="replace")[-4000:])
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in self._running.values():
            process.kill()
