"""The table of a comparison of methods, as a file: added to by several commands, never mixed with other settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.bundle_families import TrainedBundle
from qgf_ros.evaluation.method_report import report
from qgf_ros.evaluation.results import write_report
from qgf_ros.reports.numbers import plain

#: Family, training seed, row and tasks.
_Place = tuple[str, int, str, tuple[int, ...]]


class MethodTable:
    """Bundles, records and costs, and what is claimed of them.

    Args:
        path: JSON; added to where it is there.
        settings: What all records share, ``reference`` among it.
        order: Names of methods, in the order of the table.

    Raises:
        SimulationError: What is there is no such table, or one of other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], order: Sequence[str]) -> None:
        self.path = path
        self._settings = plain(settings)
        self._order = {name: place for place, name in enumerate(order)}
        found = _read(path)
        if found and found["settings"] != self._settings:
            raise SimulationError(f"{path} holds results of other settings; remove it or choose another --out")
        self._bundles: dict[_Place, dict[str, Any]] = {_place(bundle): bundle for bundle in found.get("bundles", [])}
        self._records: dict[tuple[str, int, str], dict[str, Any]] = {
            (record["fingerprint"], record["task"], record["method"]): record for record in found.get("records", [])
        }
        self._costs: dict[tuple[str, str], dict[str, Any]] = {
            (cost["fingerprint"], cost["method"]): cost for cost in found.get("costs", [])
        }

    def expect(self, bundles: Sequence[TrainedBundle]) -> None:
        """Note which bundles records will come from; those that are there already keep their records.

        Raises:
            SimulationError: Another bundle is in the place of one of them.
        """
        places = {bundle.fingerprint: bundle.place for bundle in bundles}
        for place in places.values():
            family, seed, row, _ = place
            there = self._bundles.get(place)
            if there is not None and there["fingerprint"] not in places:
                raise SimulationError(
                    f"{self.path} holds results of another bundle as {row and f'{row} of '}{family}, training seed {seed}; remove "
                    "it or choose another --out"
                )
        kept = {place: there for place, there in self._bundles.items() if there["fingerprint"] not in places}
        self._bundles = {**{b.place: {"family": b.family, **b.record()} for b in bundles}, **kept}
        for one in (*self._records.values(), *self._costs.values()):
            if one["fingerprint"] in places:  # which may have had another name
                one["family"], one["training_seed"], *_ = places[one["fingerprint"]]

    def expect_weights(self, weights: Mapping[tuple[str, int, str], Sequence[float]]) -> None:
        """Check that a method chooses among the same weights on everything of a family.

        Args:
            weights: Of each record that is to be added, by fingerprint, task and method; `expect` knows its bundle.

        Raises:
            SimulationError: A record that stays has others.
        """
        families = {there["fingerprint"]: there["family"] for there in self._bundles.values()}
        asked = {(families[which], method): plain(list(chosen)) for (which, _, method), chosen in weights.items()}
        for key, record in self._records.items():
            family, method = record["family"], record["method"]
            wanted = None if key in weights else asked.get((family, method))
            if wanted is not None and record.get("weights", wanted) != wanted:
                there, now = (", ".join(f"{weight:g}" for weight in some) for some in (record["weights"], wanted))
                raise SimulationError(
                    f"{self.path} holds results of {family} with {method} chosen among {there}, not {now}; give the same weights, "
                    "or choose another --out"
                )

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records, in place of those of the same bundle, task and method."""
        for record in records:
            # Rounded as it will be read again.
            self._records[record["fingerprint"], record["task"], record["method"]] = plain(record)

    def without_cost(self, bundle: TrainedBundle, *, timed: bool) -> list[str]:
        """Return the methods of a bundle whose cost is not known yet, or has no time."""
        this = bundle.fingerprint
        methods = dict.fromkeys(name for other, _, name in self._records if other == this)
        costs = {name: self._costs.get((this, name)) for name in methods}
        return [name for name, cost in costs.items() if cost is None or (timed and cost["time_ms"] is None)]

    def add_costs(self, bundle: TrainedBundle, costs: Sequence[Mapping[str, Any]]) -> None:
        """Add what an action of a bundle costs with some methods."""
        this = bundle.fingerprint
        where = {"family": bundle.family, "training_seed": bundle.training_seed, "fingerprint": this}
        for cost in costs:
            self._costs[this, cost["method"]] = plain({**where, **cost})

    def write(self, origin: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
        """Write the table, in one move, and return it.

        Args:
            origin: What ties it to the command and the machine.
            about: What else there is to say of how the numbers were made.

        Raises:
            SimulationError: The file cannot be written.
        """
        names = dict.fromkeys(there["family"] for there in self._bundles.values())
        families = {family: place for place, family in enumerate(names)}

        def rank(one: Mapping[str, Any]) -> tuple[int, int, int, int, str]:
            method = self._order.get(one["method"], len(self._order))
            return families[one["family"]], one["training_seed"], one.get("task", 0), method, one["method"]

        records = sorted(self._records.values(), key=rank)
        costs = sorted(self._costs.values(), key=rank)
        numbers = report(
            sorted(records, key=lambda record: (families[record["family"]], rank(record)[-2:])),
            costs,
            reference=self._settings["reference"],
        )
        for part in numbers["families"]:
            for row in part["methods"]:
                row["training_seconds"] = self._training_seconds(part["family"], row["method"])
        table: dict[str, Any] = plain(
            {
                **origin,
                "settings": self._settings,
                **about,
                **numbers,
                "bundles": [
                    self._bundles[place] for place in sorted(self._bundles, key=lambda p: (families[p[0]], p[2:], p[1]))
                ],
                "costs": costs,
                "records": records,
            }
        )
        write_report(self.path, table)
        return table

    def _training_seconds(self, family: str, method: str) -> float | None:
        """Return how long the runs behind a method took, a mean over training seeds; None where one does not say.

        Policies of one run, one for each task, took its time together; critics of another run are not in it.
        """
        records = (one for one in self._records.values() if (one["family"], one["method"]) == (family, method))
        used = {record["fingerprint"] for record in records}
        runs: dict[int, set[tuple[Any, ...]]] = {}
        for bundle in self._bundles.values():
            if bundle["fingerprint"] in used:
                told = bundle.get("training", {})
                run = tuple(told.get(key) for key in ("seconds", "updates", "critics_from"))
                runs.setdefault(bundle["training_seed"], set()).add(run)
        seconds = [[run[0] for run in each] for each in runs.values()]
        if not seconds or any(None in each for each in seconds):
            return None
        return float(sum(map(sum, seconds)) / len(seconds))


def _place(bundle: Mapping[str, Any]) -> _Place:
    """Return the `TrainedBundle.place` of a bundle's record; those of before there were rows have none."""
    return bundle["family"], bundle["training_seed"], bundle.get("row", ""), tuple(bundle.get("tasks", ()))


def _read(path: Path) -> dict[str, Any]:
    """Return the table that is there, or nothing; raises SimulationError where it is something else."""
    if not path.is_file():
        return {}
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for part, keys in (
            ("records", ("family", "training_seed", "fingerprint", "task", "method", "early", "reporting")),
            ("bundles", ("family", "training_seed", "fingerprint")),
            ("costs", ("family", "fingerprint", "method", "time_ms")),
        ):
            _ = [[one[key] for key in keys] for one in table[part]]
        _ = table["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulationError(f"{path} is not a table of this analysis; remove it or choose another --out") from error
    return table
