"""Mutation testing: do the tests notice when the code is wrong?

    python scripts/mutation [--areas loop control] [--count 100] [--seed 14] [--jobs 1] [--again] [--write]

draws mutants of each area, runs the tests of each until one fails, and prints how many were killed and which were not. The
checkout is copied first and never touched; results are kept in ``.mutants``, so that a run that was broken off goes on.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkItem
from forked_tests import copy_checkout
from line_tests import LineTests
from mutant_draw import draw
from mutation_areas import AREAS
from mutation_report import MutationReport
from mutation_run import MutationRun

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".mutants"


def main() -> None:
    """Draw, test and report."""
    parser = argparse.ArgumentParser(prog="scripts/mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--areas", nargs="+", choices=list(AREAS), default=list(AREAS), help="which areas of the code")
    parser.add_argument("--count", type=int, default=100, help="mutants of each area")
    parser.add_argument("--seed", type=int, default=14, help="of the draw")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--budget", type=float, default=10.0, help="processor time of the tests of one mutant [s]")
    parser.add_argument("--again", action="store_true", help="test survivors again, after tests were added")
    parser.add_argument(
        "--write", action="store_true", help="write docs/results/mutation and the table of reliability.md"
    )
    parser.add_argument("--report", action="store_true", help="only report what is known")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the copies and processes go, too
    STATE.mkdir(exist_ok=True)
    with use_db(str(STATE / "results.sqlite"), WorkDB.Mode.create) as results:
        with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
            original = Path(scratch) / "original"
            copy_checkout(ROOT, original)
            drawn = {area: draw(original, area, options.count, options.seed) for area in options.areas}
            if not options.report:
                _test(original, drawn, results, options)
        report = MutationReport(drawn, results, Path(__file__).with_name("equivalent.yaml"))
    print(f"\n{report.survivors()}\n{report.table()}")
    if options.write:
        command = f"make mutants ARGS='--seed {options.seed} --count {options.count}'"
        report.write(ROOT / "docs" / "results" / "mutation", ROOT / "docs" / "reliability.md", options.seed, command)


def _test(
    original: Path, drawn: Mapping[str, Sequence[WorkItem]], results: WorkDB, options: argparse.Namespace
) -> None:
    """Test what is drawn and has no result yet; with ``again``, what survived as well."""
    items = [item for area in drawn.values() for item in area]
    stored = {item.job_id for item in results.work_items}
    results.add_work_items(item for item in items if item.job_id not in stored)
    outcomes = {name: result.test_outcome for name, result in results.results}
    if options.again:
        outcomes = {name: outcome for name, outcome in outcomes.items() if outcome is not TestOutcome.SURVIVED}
    pending = [item for item in items if item.job_id not in outcomes]
    if pending:
        tests = LineTests(original, STATE / "tests.json", options.budget)
        with MutationRun(original, options.jobs) as run:
            run.see(tests, print)
            print(f"{len(pending)} of {len(items)} mutants to test", flush=True)
            run.test(pending, tests, results, print)


if __name__ == "__main__":
    main()
