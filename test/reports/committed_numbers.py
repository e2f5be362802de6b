"""What the tables of results must say, from the data in docs/results: a function for each kind of table."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from documented_tables import Cells, Kind, Rows, read

from qgf_ros.reports.statistics import compare_paired, wilson_interval


def rate(successes: int, episodes: int, decimals: int = 0) -> str:
    """Return a rate and its interval as the documentation writes them."""
    share, low, high = (
        f"{100 * value:.{decimals}f}" for value in (successes / episodes, *wilson_interval(successes, episodes))
    )
    return f"{share} % [{low}, {high}]"


def points(difference: float, ci95: Sequence[float]) -> str:
    """Return a difference and its interval in points."""
    share, low, high = (f"{100 * value:+.0f}" for value in (difference, *ci95))
    return f"{share} [{low}, {high}]".replace("-0 ", "0 ").replace("+0 ", "0 ")


@dataclass(frozen=True)
class SolvedOf:
    """How many of how many episodes were solved, after how many steps together."""

    successes: int
    episodes: int
    steps: int

    def __add__(self, other: SolvedOf) -> SolvedOf:
        return SolvedOf(self.successes + other.successes, self.episodes + other.episodes, self.steps + other.steps)


def reported(record: Any) -> dict[int, list[SolvedOf]]:
    """Return what each task of a tuning reports, of behaviour cloning and, where there is one, of the chosen weight."""
    found: dict[int, list[SolvedOf]] = {}
    for task in record["tasks"]:
        served = task["tasks"]  # of one critic; seeds take turns with them
        for run in task["reporting"]:
            outcomes = run["outcomes"]
            for number in served:
                turn = [i for i, seed in enumerate(outcomes["seed"]) if served[seed % len(served)] == number]
                solved, steps = (sum(outcomes[key][i] for i in turn) for key in ("success", "length"))
                found.setdefault(number, []).append(SolvedOf(solved, len(turn), steps))
    return found


def reporting(data: Sequence[Any], header: Cells) -> Rows:
    """What a tuning reports of each task, and of all of them together where each has a chosen weight."""
    (record,) = data
    weights = {number: task for task in record["tasks"] for number in task["tasks"]}
    rows: Rows = {}
    for number, runs in reported(record).items():
        chosen, tried = weights[number]["recommended_weight"], weights[number]["reporting"][-1]["guidance_weight"]
        steps = " → ".join(f"{run.steps / run.episodes:.0f}" for run in runs)
        cells = {
            "behaviour cloning": rate(runs[0].successes, runs[0].episodes),
            "Q-guided flow": (chosen_rate := rate(runs[1].successes, runs[1].episodes) if len(runs) > 1 else "—"),
            "recommended settings": chosen_rate,
            "guidance weight": f"{chosen:g}",
            "recommended weight": f"{chosen:g}" if chosen or not tried else f"0 (tried: {tried:g})",
            "mean episode length": f"{steps} steps",
            "candidates": str(weights[number]["recommended_settings"].get("num_samples", 1)),
        }
        rows[str(number)] = [cells[title] for title in header[1:]]
    if all(len(runs) == 2 for runs in reported(record).values()):
        rows["all"] = [*(rate(*pooled(record, run), 1) for run in range(2)), *("" for _ in header[3:])]
    return rows


def pooled(record: Any, run: int, tasks: Sequence[int] = ()) -> tuple[int, int]:
    """Return how many of how many episodes of several tasks were solved, all by default."""
    found = reported(record)
    runs = [found[number][run] for number in tasks or found]
    return sum(one.successes for one in runs), sum(one.episodes for one in runs)


def choosing(data: Sequence[Any], header: Cells) -> Rows:
    """Solved of how many on the choosing seeds, by weight; without tasks where one critic serves all."""
    (record,) = data
    rows: Rows = {}
    for task in record["tasks"]:
        assert not any(run["settings"] for run in task["choosing"]), "more than weights was tried"
        solved = {f"{run['guidance_weight']:g}": f"{run['successes']}/{run['episodes']}" for run in task["choosing"]}
        if header[0] == "task":
            rows[str(task["task"])] = [solved.pop(weight) for weight in header[1:]]
        else:
            first, *others = [solved.pop(weight) for weight in header]
            rows[first] = others
        assert not solved, f"the table leaves out the weights {', '.join(solved)}"
    return rows


def combinations(data: Sequence[Any], header: Cells) -> Rows:
    """Solved of how many on the choosing seeds, by weight, in a row for each number of candidates of each task."""
    (record,) = data
    rows: Rows = {}
    for task in record["tasks"]:
        for run in task["choosing"]:
            candidates = str(run["settings"].get("num_samples", 1))
            row = rows.setdefault(f"{task['task']}, {candidates}", [candidates, *("" for _ in header[2:])])
            row[header.index(f"{run['guidance_weight']:g}") - 1] = f"{run['successes']}/{run['episodes']}"
    return rows


def bundles(data: Sequence[Any], header: Cells) -> Rows:
    """The results of several bundles, of all tasks together and of each."""
    del header
    rows: Rows = {}
    for record in data:
        found = {number: runs for number, runs in reported(record).items() if len(runs) == 2}
        some = {str(number): [number] for number in found}
        if len(found) == len(reported(record)):
            some[f"{min(found)} to {max(found)}"] = list(found)
        for which, tasks in some.items():
            (bc, episodes), (guided, _) = (pooled(record, run, tasks) for run in range(2))
            rates = [rate(solved, episodes, int(len(tasks) > 1)) for solved in (bc, guided)]
            rows[f"{record['bundle']}, {which}"] = [which, str(episodes), *rates]
    return rows


def beside(data: Sequence[Any], header: Cells) -> Rows:
    """What a tuning reports beside an evaluation of another bundle on the same tasks and seeds, and the guided ones paired."""
    del header
    tuned, evaluated = data
    rows: Rows = {}
    pairs: list[list[list[bool]]] = []
    for task in tuned["tasks"]:
        theirs = [run for run in evaluated["runs"] if run["task"] == task["task"]]
        outcomes = [run["outcomes"] for run in (*task["reporting"], *theirs)]
        assert len(outcomes) == 4, f"task {task['task']} has {len(outcomes)} runs, expected two of each bundle"
        assert all(one["seed"] == outcomes[0]["seed"] for one in outcomes), "the seeds differ"
        pairs.append([one["success"] for one in outcomes])
        rows[str(task["task"])] = _beside(pairs[-1], 0)
    rows["all"] = _beside([[*itertools.chain(*runs)] for runs in zip(*pairs, strict=True)], 1)
    return rows


def _beside(runs: Sequence[Sequence[bool]], decimals: int) -> Cells:
    """Return the rates of four runs on the same seeds, and the difference of the last from the second."""
    paired = compare_paired(runs[1], runs[3])
    return [*(rate(sum(run), len(run), decimals) for run in runs), points(paired.difference, paired.ci95)]


def _bundle_and_tasks(row: Cells) -> str:
    found = re.search(r"`models/([\w-]+)`", row[0])
    return f"{found[1] if found else row[0]}, {row[1]}"


def optima(data: Sequence[Any], header: Cells) -> Rows:
    """Where the best policy for the dense reward comes to rest, by environment and discount."""
    del header
    (record,) = data
    rows: Rows = {}
    for one in record["optima"]:
        tasks = [int(task) for task in one["left_wrong"]]
        wrong = set(one["left_wrong"].values())
        several = len(tasks) > 2 and tasks == list(range(tasks[0], tasks[-1] + 1))
        which = [tasks[0], tasks[-1]] if several else tasks
        rows.setdefault(f"`{one['environment']}`", []).append(" ".join(map(str, [*which, *wrong])))
    return {name: cells for name, cells in rows.items() if len(cells) == 3}


def parity(data: Sequence[Any], header: Cells) -> Rows:
    """To how many digits the losses and gradients here are those of the published code, at worst, in both precisions."""
    del header
    (record,) = data
    rows: Rows = {}
    for row in record["rows"]:
        cells = rows.setdefault(f"{row['method']}, {row['kind']}", [", ".join(row["losses"])])
        for compared in ("losses", "gradients"):
            worst = max(one["difference"] for one in row[compared].values())
            cells.append(f"{-math.log10(worst):.1f}")
    return rows


RESULTS = {
    "parity": Kind(parity, lambda row: row[0].replace("`", "")),
    "reporting": Kind(reporting, optional=frozenset({"all"})),
    "choosing": Kind(choosing),
    "combinations": Kind(combinations, lambda row: f"{row[0]}, {row[1]}"),
    "bundles": Kind(bundles, _bundle_and_tasks, None),
    "beside": Kind(beside),
    "optima": Kind(optima),
}


def known_rates(files: Iterable[Path]) -> set[str]:
    """Return the rate of every run in files of results with its interval, as the documentation would write it."""
    return {one for path in files for one in _rates_in(read(path)) | rates_of_all_tasks(path)}


def rates_of_all_tasks(path: Path) -> set[str]:
    """Return the rates that a tuning gives over all tasks: of behaviour cloning, of guidance, and of the choosing episodes.

    Of an evaluation, those of behaviour cloning and of guidance.
    """
    record = read(path)
    runs = record.get("runs", []) if isinstance(record, dict) else []
    if runs and all({"task", "guidance_weight"} <= run.keys() for run in runs):
        of = [[run for run in runs if bool(run["guidance_weight"]) is guided] for guided in (False, True)]
        pools = [[sum(run[key] for run in some) for key in ("successes", "episodes")] for some in of if some]
        return {one for solved, episodes in pools for one in _rates(solved, episodes)}
    if not isinstance(record, dict) or record.get("source") != "processes":
        return set()
    known = _rates(*_chosen(record))
    for runs in zip(*reported(record).values()):
        known |= _rates(sum(run.successes for run in runs), sum(run.episodes for run in runs))
    return known


def _rates(successes: int, episodes: int) -> set[str]:
    return {rate(successes, episodes, decimals) for decimals in (0, 1)}


def _rates_in(part: Any) -> set[str]:
    """Return the rates of all runs anywhere in a record."""
    known: set[str] = set()
    if isinstance(part, dict):
        if part.get("episodes") and "successes" in part:
            known |= _rates(part["successes"], part["episodes"])
        if "reporting" in part and isinstance(part["reporting"], list):
            runs = (run for runs in reported({"tasks": [part]}).values() for run in runs)
            known.update(rate(run.successes, run.episodes) for run in runs)
        part = list(part.values())
    if isinstance(part, list):
        known = known.union(*map(_rates_in, part))
    return known


def _chosen(record: Any) -> tuple[int, int]:
    """Return how many of how many choosing episodes the chosen weights of all tasks solved."""
    runs = [
        run
        for task in record["tasks"]
        for run in task["choosing"]
        if (run["guidance_weight"], run["settings"]) == (task["recommended_weight"], task["recommended_settings"])
    ]
    return sum(run["successes"] for run in runs), sum(run["episodes"] for run in runs)
