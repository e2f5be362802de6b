"""What the tables of docs/comparison.md must say, from the data in docs/results and models: a function for each kind of table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from committed_numbers import points, pooled, rate, reported
from documented_tables import Cells, Kind, Rows

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
#: Those that ask no critic for a gradient.
PLAIN = ("bc", "bfn4", "bfn16")
#: Those beside which the paper ranks QGF's estimator.
GUIDED = ("noisy", "qgf_jacobian", "qgf_chain", "bptt", "grad_step")


def success(data: Sequence[Any], header: Cells) -> Rows:
    """Every method of `qgf analyze success`, with what an action costs by that of `compute`."""
    del header
    record, timed = data
    latency = {(case["method"], case["candidates"]): case["latency_ms"]["p50"] for case in timed["cases"]}
    run = {row["method"]: (row["estimator"], row["num_samples"]) for row in record["records"]}
    rows: Rows = {}
    for method in record["overall"]["methods"]:
        name, versus = method["method"], method["versus"]
        chosen = [weight for task in method["tasks"] for weight in task["weights"]]
        weights = ", ".join(f"{weight:g}" for weight in dict.fromkeys(chosen))
        against, beside = "", ""
        if versus is not None:
            against = points(versus["difference"], versus["newcombe95"])
            beside = f"{versus['verdict']}, p = {versus['p_holm']:.1g}"
        estimator, candidates = run[name]
        time = latency["bc" if name in PLAIN else estimator, candidates]
        rows[METHODS[name]] = [
            weights,
            rate(method["successes"], method["episodes"]),
            f"{method['mean_length']:.0f}",
            against,
            beside,
            f"{1000 * method['cost']['gflops']:.1f}",
            f"{time:.1f}",
        ]
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
    """What the bundles were trained and tuned with, in the order of the header; the paper's numbers are its own."""
    del header
    manifests, tuned = data[: len(data) // 2], data[len(data) // 2 :]
    training = [manifest["training"] for manifest in manifests]
    taken = [record.get("critics_from", {"hidden": record["config"]["hidden"]}) for record in training]
    (batch,), (discount,), seeds = (
        {record["config"][name] for record in training} for name in ("batch_size", "discount", "seed")
    )
    policies, critics = ([_layers(one["hidden"]) for one in of] for of in ([r["config"] for r in training], taken))
    assert {*critics} == {"3 256"} and len(seeds) == 1
    updates = [f"{record['updates']}" for record in training]
    updates += [re.sub(r"\D+0*", "", one["checkpoint"]) for one in taken if "checkpoint" in one]
    return {
        "tasks": ["", ""],
        "transitions": ["100", " ".join(f"{record['dataset']['transitions'] / 1e6:g}" for record in training)],
        "chunks H": ["5", " ".join(str(manifest["horizon"]) for manifest in manifests)],
        "networks": ["1024", " ".join([*policies, critics[0]])],
        "updates, batch": ["500000 1024", " ".join([*updates, str(batch)])],
        "discount": ["0.999", str(discount)],
        "reward": ["", ""],
        "training seeds of each task": ["10", str(len(seeds))],
        "held-out episodes of each task and training seed": ["30", " ".join(map(_episodes, tuned))],
        "guidance weights": ["0.004 0.12", " ".join(map(_weights, tuned))],
    }


def _layers(hidden: Sequence[int]) -> str:
    (width,) = {*hidden}
    return f"{len(hidden)} {width}"


def _episodes(tuned: Any) -> str:
    (episodes,) = {run.episodes for runs in reported(tuned).values() for run in runs}
    return str(episodes)


def _weights(tuned: Any) -> str:
    """Return the least and the largest weight of a search, of as many as the text says."""
    (tried,) = {frozenset(run["guidance_weight"] for run in task["choosing"]) for task in tuned["tasks"]}
    assert len(tried) in (5, 11)
    return f"{min(tried):g} {max(tried):g}"


def orderings(data: Sequence[Any], header: Cells) -> Rows:
    """The paper's orderings, from three tunings, the toy, and the analyses of success, sensitivity and compute."""
    del header
    tuned, goals, scene, toy, compared, turned, timed = data
    methods = compared["overall"]["methods"]
    versus = {method["method"]: method["versus"] for method in methods if method["versus"]}
    against = {name: points(one["difference"], one["newcombe95"]) for name, one in versus.items()}
    share = {method["method"]: method["success_rate"] for method in methods}
    assert (versus["bfn16"]["verdict"], versus["qgf_bfn4"]["verdict"]) == ("worse", "worse")
    turn = {name: one["by_deviation"]["mean"][turned["deviations"].index(0.3)] for name, one in turned["mean"].items()}
    return {
        "QGF lifts BC far": [
            "1 2",
            " ".join([_lifted(tuned), _lifted(scene, [1]), _lifted(scene, [2])]),
            "3 5",
        ],
        "so it does with goals": ["", _lifted(goals), ""],
        "QGF beats noisy (QFQL), Jacobian, chain, BPTT and gradient steps": [
            _undecided(versus),
            _between(versus),
            "200",
        ],
        "QGF beats best-of-N": [
            f"16 4 {versus['bfn4']['verdict']}",
            f"16: {against['bfn16']}, 4: {against['bfn4']}",
            "",
        ],
        "more candidates are better, QGF with best-of-N is best": [
            "",
            f"16 {100 * share['bfn16']:.0f} 4 {100 * share['bfn4']:.0f} 4 {_lost(versus['qgf_bfn4'])}",
            "",
        ],
        "the noised action misleads its gradient (Figure 2)": ["", _toy(toy), ""],
        "BPTT's gradient has a high variance": ["", _variance(toy), against["bptt"]],
        "QGF's gradient turns least when the noised action is shifted": [
            "",
            "0.3 " + " ".join(f"{turn[name]:.2f}" for name in ("qgf", "qgf_chain", "bptt", "qgf_jacobian", "noisy")),
            "",
        ],
        "QGF is cheap": ["", *_costs(timed)],
        "it keeps up with training-time methods; it gains with the size of networks": ["", "", ""],
    }


def _lifted(record: Any, tasks: Sequence[int] = ()) -> str:
    return " ".join(rate(*pooled(record, run, tasks)) for run in range(2))


def _undecided(versus: Any) -> str:
    """Return nothing, where the verdict on each of the guided methods is that nothing is decided."""
    assert {versus[name]["verdict"] for name in GUIDED} == {"undecided"}
    return "undecided"


def _between(versus: Any) -> str:
    alike = [versus[name] for name in GUIDED]
    leads = [one["difference"] for one in alike]
    assert all(one["newcombe95"][0] < 0.0 < one["newcombe95"][1] for one in alike)
    low, high = max(one["newcombe95"][0] for one in alike), min(one["newcombe95"][1] for one in alike)
    return f"{100 * min(leads):.0f} {100 * max(leads):.0f} 0 {100 * low:.0f} {100 * high:.0f} 5"


def _lost(versus: Any) -> str:
    lost, low, high = (-100 * value for value in (versus["difference"], *versus["newcombe95"][::-1]))
    return f"{lost:.0f} [{low:.0f}, {high:.0f}]"


def _costs(timed: Any) -> list[str]:
    """Return what QGF and BPTT cost, and what the cheaper methods do."""
    time = {(case["method"], case["candidates"]): case["latency_ms"]["p50"] for case in timed["cases"]}
    work = {case["method"]: 1e3 * case["algorithm"]["gflops"] for case in timed["cases"] if case["candidates"] == 1}
    assert 3.5 < work["bptt"] / work["qgf"] < 4.5
    return [
        f"{work['qgf']:.0f} {work['bptt']:.0f} {time['qgf', 1]:.1f} {time['bptt', 1]:.1f}",
        f"{time['bc', 1]:.1f} 16 {time['bc', 16]:.1f} {time['grad_step', 1]:.1f}",
    ]


def _toy(toy: Any) -> str:
    noise, weights, samples = (toy["setting"][key] for key in ("noise", "weights", "samples"))
    runs = {(run["method"], run["weight"]): run["share_at_optimum"] for run in toy["runs"]}
    shares = [f"{100 * runs[name, weight]:.0f}" for name in ("noisy", "bptt", "qgf") for weight in weights]
    leads = {one["noise"]: one["largest_lead"] for one in toy["noise_sweep"]}
    words = [noise, *weights, samples, *shares, f"{100 * toy['bc']['share_at_optimum']:.0f}", toy["noisy_recovers_at"]]
    for one in (0.05, 0.5, 1.0):
        words += [f"{100 * leads[one]:.0f}", f"{one:g}"]
    return " ".join(map(str, words))


def _variance(toy: Any) -> str:
    runs = [run for run in toy["runs"] if run["method"] == "bptt"]
    others = [run["gradient"]["max"] for run in toy["runs"] if run["method"] != "bptt"]
    (last,) = (run for run in toy["sweep"] if (run["method"], run["weight"]) == ("bptt", 8.0))
    largest = max(run["gradient"]["max"] for run in runs)
    return f"{largest:.0f} {max(others):.0f} {100 * last['share_at_optimum']:.0f} 8"


def unsolved(data: Sequence[Any], header: Cells) -> Rows:
    """What the dense optimum comes to, beside what bundles of either reward solve and published runs with the sparse one."""
    del header
    optima, dense, *sparse, cited = data
    left = {one["environment"]: one["left_wrong"] for one in optima["optima"] if one["discount"] == 0.99}
    rows: Rows = {}
    for record in sparse:
        shares = cited["success"][record["bundle"]]["IFQL"]["100000"]
        for task, runs in reported(record).items():
            wrong = left[record["bundle"]].get(str(task), "")
            solved = [rate(run.successes, run.episodes) for run in runs]
            rows[f"{record['bundle']} {task}"] = [str(wrong), "", *[*solved, ""][:2], f"{shares[task - 1]:g}"]
    for task, runs in reported(dense).items():
        rows[f"{dense['bundle']} {task}"][1] = rate(runs[1].successes, runs[1].episodes) if len(runs) > 1 else ""
    return rows


def attempts(data: Sequence[Any], header: Cells) -> Rows:
    """Solved of how many with several candidates, task by task and of all, without guidance and at the weight beside it."""
    del header
    rows: Rows = {}
    for record in data:
        (episodes,) = {run["episodes"] for run in record["runs"]}
        none, weight = dict.fromkeys(run["guidance_weight"] for run in record["runs"])
        cells = rows[record["bundle"]] = [str(episodes)]
        for tried in (none, weight):
            solved = [run["successes"] for run in record["runs"] if run["guidance_weight"] == tried]
            cells += [", ".join(map(str, solved)), rate(sum(solved), episodes * len(solved))]
        cells.append(f"{weight:g}")
    return rows


def cited(data: Sequence[Any], header: Cells) -> Rows:
    """What is solved here, beside what published runs solved."""
    del header
    here, published = data
    shares = published["success"][here["bundle"]]
    rows: Rows = {}
    for task, runs in reported(here).items():
        place = published["tasks"].index(task)
        solved = [rate(run.successes, run.episodes) for run in runs]
        others = [
            f"{shares[who][str(updates)][place]:g}" for who in ("IFQL", "QAM") for updates in (100_000, 1_000_000)
        ]
        rows[str(task)] = [*solved, ""][:2] + others
    return rows


def gains(data: Sequence[Any], header: Cells) -> Rows:
    """What methods gain in Q, how far from the data, and how much they solve, of all tasks of the second file."""
    del header
    values, compared = data
    rows: Rows = {}
    for name, candidates in (("bc", 1), ("bfn4", 4), ("bfn16", 16)):
        (run,) = (run for run in values["mean"]["bfn"] if run["candidates"] == candidates)
        (method,) = (method for method in compared["overall"]["methods"] if method["method"] == name)
        rows[METHODS[name]] = [*_gained(run), f"{method['successes']}/{method['episodes']}"]
    for weight in (0.03, 1.0):
        (run,) = (run for run in values["mean"]["qgf"] if run["weight"] == weight)
        tried = [
            run
            for record in compared["records"]
            for run in record["choosing"]
            if (record["method"], run["guidance_weight"]) == ("qgf", weight)
        ]
        solved, episodes = (sum(run[key] for run in tried) for key in ("successes", "episodes"))
        rows[f"QGF at {weight:g}"] = [*_gained(run), f"{solved}/{episodes}"]
    return rows


def _gained(run: Any) -> list[str]:
    gain = run["gain"]["mean"]
    return [f"{gain:.2f}" if gain else "0", f"{run['distance']['mean']:.3f}"]


COMPARISON = {
    "success": Kind(success),
    "published": Kind(published),
    "setting": Kind(setting),
    "orderings": Kind(orderings),
    "unsolved": Kind(unsolved),
    "attempts": Kind(attempts),
    "cited": Kind(cited),
    "gains": Kind(gains),
}
