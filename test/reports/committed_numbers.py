"""What the tables of the documentation must say, from the data in docs/results and models: a function for each kind of table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from documented_tables import Cells, Kind, Rows, read

from qgf_ros.reports.statistics import wilson_interval


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
            "Q-guided flow": rate(runs[1].successes, runs[1].episodes) if len(runs) > 1 else "—",
            "guidance weight": f"{chosen:g}",
            "recommended weight": f"{chosen:g}" if chosen or not tried else f"0 (tried: {tried:g})",
            "mean episode length": f"{steps} steps",
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
        solved = {f"{run['guidance_weight']:g}": f"{run['successes']}/{run['episodes']}" for run in task["choosing"]}
        if header[0] == "task":
            rows[str(task["task"])] = [solved.pop(weight) for weight in header[1:]]
        else:
            first, *others = [solved.pop(weight) for weight in header]
            rows[first] = others
        assert not solved, f"the table leaves out the weights {', '.join(solved)}"
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


def _bundle_and_tasks(row: Cells) -> str:
    found = re.search(r"`models/([\w-]+)`", row[0])
    return f"{found[1] if found else row[0]}, {row[1]}"


#: How the methods are called in the table, by their names in the data.
METHODS = {
    "bc": "BC",
    "bfn4": "best of 4 (BFN)",
    "bfn16": "best of 16",
    "qgf": "QGF",
    "qgf_bfn4": "QGF, best of 4",
    "qgf_jacobian": "QGF-Jacobian",
    "qgf_chain": "QGF-chain",
    "noisy": "noisy (QFQL)",
    "bptt": "BPTT",
    "grad_step": "gradient steps (L = 1)",
}


def success(data: Sequence[Any], header: Cells) -> Rows:
    """Every method of `qgf analyze success`."""
    del header
    (record,) = data
    rows: Rows = {}
    for method in record["overall"]["methods"]:
        chosen = [weight for task in method["tasks"] for weight in task["weights"]]
        weights = ", ".join(f"{weight:g}" for weight in dict.fromkeys(chosen))
        versus = method["versus"]
        against = "" if versus is None else points(versus["difference"], versus["newcombe95"])
        solved = rate(method["successes"], method["episodes"])
        rows[METHODS[method["method"]]] = [weights, solved, f"{method['mean_length']:.0f}", against]
    return rows


def published(data: Sequence[Any], header: Cells) -> Rows:
    """The published code beside this one, task by task."""
    del header
    (record,) = data
    rows: Rows = {}
    for task in record["tasks"]:
        said = task["difference"]
        runs = {
            who: {run["guidance_weight"]: rate(run["successes"], run["episodes"]) for run in task[who]}
            for who in ("published", "here")
        }
        guided = [
            f"{runs[who][weight]} at {weight:g}" if (weight := said[f"{who}_weight"]) else _at_each(runs[who])
            for who in ("published", "here")
        ]
        against = f"{points(said['difference'], said['ci95'])} points, p = {said['p_value']:.3g}"
        rows[f"task {task['task']}"] = [runs["published"][0.0], runs["here"][0.0], *guided, against]
    return rows


def _at_each(runs: dict[float, str]) -> str:
    """Return what all weights above 0 reach alike; they are none where nothing was chosen."""
    (reached,) = {text for weight, text in runs.items() if weight} or {""}
    return reached


def setting(data: Sequence[Any], header: Cells) -> Rows:
    """What the bundles were trained with, in the order in which the rows name them; the paper's numbers are its own."""
    del header
    training = {manifest["name"]: manifest["training"] for manifest in data}
    millions = [f"{record['dataset']['transitions'] / 1e6:g}" for record in training.values()]
    (layers,) = {tuple(record["config"]["hidden"]) for record in training.values()}
    (batch,) = {record["config"]["batch_size"] for record in training.values()}
    (discount,) = {record["config"]["discount"] for record in training.values()}
    updates = [str(record["updates"]) for record in training.values()]
    assert len(layers) == 3
    return {
        "environments": ["", ""],
        "transitions": ["100", " ".join(millions)],
        "networks": ["1024", str(layers[0])],
        "chunks H": ["5", " ".join(dict.fromkeys(str(manifest["horizon"]) for manifest in data))],
        "updates, batch": ["500000 1024", " ".join([*updates, str(batch)])],
        "discount": ["0.999", f"{discount:g}"],
        "reward": ["", ""],
        "training seeds": ["10", str(len({record["config"]["seed"] for record in training.values()}))],
    }


def orderings(data: Sequence[Any], header: Cells) -> Rows:
    """The paper's orderings, from a tuning, the toy, and the analyses of success, sensitivity and compute."""
    del header
    tuned, toy, compared, turned, timed = data
    (bc, episodes), (guided, _) = (pooled(tuned, run) for run in range(2))
    methods = compared["overall"]["methods"]
    versus = {method["method"]: method["versus"] for method in methods if method["versus"]}
    against = {name: points(one["difference"], one["newcombe95"]) for name, one in versus.items()}
    share = {method["method"]: method["success_rate"] for method in methods}
    alike = [versus[name] for name in ("noisy", "qgf_jacobian", "qgf_chain", "bptt", "grad_step")]
    leads = [one["difference"] for one in alike]
    assert all(one["newcombe95"][0] < 0.0 < one["newcombe95"][1] for one in alike)
    less = [
        f"{-100 * value:.0f}" for value in (versus["qgf_bfn4"]["difference"], *versus["qgf_bfn4"]["newcombe95"][::-1])
    ]
    latency = {case["method"]: case["latency_ms"]["p50"] for case in timed["cases"] if case["candidates"] == 1}
    turn = {name: one["by_deviation"]["mean"][turned["deviations"].index(0.3)] for name, one in turned["mean"].items()}
    return {
        "QGF lifts BC far (the paper's main result)": [
            "",
            f"{rate(guided, episodes)} {rate(bc, episodes)} {episodes}",
        ],
        "the noised action misleads its gradient, QGF and BPTT reach a* (Figure 2)": ["", _toy(toy)],
        "BPTT is unstable": ["", f"{_unstable(toy)} {against['bptt']}"],
        "QGF's gradient turns least when the noised action is shifted": [
            "",
            "0.3 " + " ".join(f"{turn[name]:.2f}" for name in ("qgf", "qgf_chain", "bptt", "qgf_jacobian", "noisy")),
        ],
        "QGF beats noisy (QFQL), Jacobian, chain, BPTT and gradient steps in success": [
            "",
            f"{100 * min(leads):.0f} {100 * max(leads):.0f} 0 "
            f"{100 * max(one['newcombe95'][0] for one in alike):.0f} {100 * min(one['newcombe95'][1] for one in alike):.0f}",
        ],
        "QGF beats best-of-N": ["16 4", f"4: {against['bfn4']}, 16: {against['bfn16']}"],
        "more candidates are better; QGF with best-of-N is best": [
            "",
            f"16 4 {100 * share['bfn16']:.0f} {100 * share['bfn4']:.0f} 4 {less[0]} [{less[1]}, {less[2]}]",
        ],
        "QGF is cheap": ["", f"{latency['qgf']:.1f} {latency['bptt']:.1f} {latency['bc']:.1f} 1"],
    }


def _toy(toy: Any) -> str:
    noise, weights, samples = (toy["setting"][key] for key in ("noise", "weights", "samples"))
    runs = {(run["method"], run["weight"]): run["share_at_optimum"] for run in toy["runs"]}
    shares = [f"{100 * runs[name, weight]:.0f}" for name in ("noisy", "bptt", "qgf") for weight in weights]
    leads = {one["noise"]: one["largest_lead"] for one in toy["noise_sweep"]}
    words = [noise, *weights, *shares, f"{100 * toy['bc']['share_at_optimum']:.0f}", samples, toy["noisy_recovers_at"]]
    for one in (0.05, 0.5, 1.0):
        words += [f"{100 * leads[one]:.0f}", f"{one:g}"]
    return " ".join(map(str, words))


def _unstable(toy: Any) -> str:
    runs = [run for run in toy["runs"] if run["method"] == "bptt"]
    others = [run["gradient"]["max"] for run in toy["runs"] if run["method"] != "bptt"]
    (last,) = (run for run in toy["sweep"] if (run["method"], run["weight"]) == ("bptt", 8.0))
    largest = max(run["gradient"]["max"] for run in runs)
    return f"{largest:.0f} {max(others):.0f} {100 * last['share_at_optimum']:.0f} 8"


KINDS = {
    "reporting": Kind(reporting, optional=frozenset({"all"})),
    "choosing": Kind(choosing),
    "bundles": Kind(bundles, _bundle_and_tasks, None),
    "success": Kind(success),
    "published": Kind(published),
    "setting": Kind(setting),
    "orderings": Kind(orderings),
}


def known_rates(results: Path) -> set[str]:
    """Return the rate of every run in a folder of results with its interval, as the documentation would write it."""
    known: set[str] = set()

    def visit(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("episodes") and "successes" in part:
                known.update(rate(part["successes"], part["episodes"], decimals) for decimals in (0, 1))
            if "reporting" in part and isinstance(part["reporting"], list):
                single = {"tasks": [part]}
                known.update(rate(run.successes, run.episodes) for runs in reported(single).values() for run in runs)
            part = list(part.values())
        if isinstance(part, list):
            for one in part:
                visit(one)

    for path in sorted(results.rglob("*.json")):
        record = read(path)
        visit(record)
        if isinstance(record, dict) and record.get("source") == "processes":
            for runs in zip(*reported(record).values()):
                solved, episodes = (sum(getattr(run, key) for run in runs) for key in ("successes", "episodes"))
                known.update(rate(solved, episodes, decimals) for decimals in (0, 1))
    return known
