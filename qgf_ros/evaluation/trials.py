"""Trials: blocks of seeded episodes of one configuration, none of which is run twice.

A trial is the unit of work, of storage and of resuming. Its outcome depends on what it says alone, so that it makes no
difference where it runs or in which order. Finished trials are kept as lines of JSON, under everything that decides
their outcome; whoever asks for the same trial again gets it from there.

Imports neither MuJoCo nor ROS.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from qgf_ros import __version__
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.run_options import RunOptions
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.halving import Outcome, Outcomes
from qgf_ros.evaluation.results import Episode
from qgf_ros.reports.numbers import plain

#: What a tuning writes into a critic's card; no outcome depends on it.
_EVIDENCE = {
    "recommended_weight",
    "recommended_settings",
    "recommended_limits",
    "tested_range",
    "evaluations",
    "versus_bc",
}


def fingerprint(manifest: Manifest) -> str:
    """Return a checksum of a manifest without the evidence of tunings; the checksums of the bundle's files are in it."""
    # A field that older versions lack counts where it says something, so that their trials are found again.
    newer = {} if manifest.goal_fields else {"goal_fields": True}
    content = manifest.model_dump_json(exclude={"critics": {"__all__": _EVIDENCE}, **newer})
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """Episodes with the same options.

    Attributes:
        bundle: Folder of the bundle.
        fingerprint: Of the bundle that must lie there.
        task: Single-task number; None for a robot's own task.
        options: How they act, with a named critic; the seed is that of the episode.
        seeds: Of the episodes.
        batch_size: Episodes that share an inference.
    """

    bundle: Path
    fingerprint: str
    task: int | None
    options: RunOptions
    seeds: tuple[int, ...]
    batch_size: int = 1


#: Runs trials and yields each with its outcomes as it ends, in any order.
Execute = Callable[[Sequence[Trial]], Iterator[tuple[Trial, list[Outcome]]]]


def outcome_of(episode: Episode) -> Outcome:
    """Return what a search wants to know of an episode, with numbers as they will be read again."""
    start = episode.values[0] if episode.values else math.nan
    farthest = max(filter(math.isfinite, episode.distances), default=math.nan)
    return Outcome(episode.seed, episode.success, episode.length, plain(start), plain(farthest))


class TrialStore:
    """Finished trials on disk; each is there as a whole or not at all.

    Args:
        path: JSON lines; made, with its folder, when missing, and continued when not.
        manifest: Of the bundle. A trial counts for the bundle and the version of this package that ran it.
        source: What runs the episodes: "processes" of this package, the simulation "bridge", or a "robot".
        conditions: Whatever else of the source decides an outcome.

    Attributes:
        path: See above.
        fingerprint: Of the bundle.

    Raises:
        SimulationError: The file cannot be read or written.
    """

    def __init__(self, path: Path, manifest: Manifest, source: str, conditions: str = "") -> None:
        self.path = path
        self.fingerprint = fingerprint(manifest)
        self._place = {
            "bundle": self.fingerprint,
            "version": __version__,
            "source": source,
            "conditions": conditions,
        }
        self._known: dict[str, list[Outcome]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                file.seek(0)
                content = file.read()
                # A process killed within a write leaves half a line; it must not swallow the next one.
                if content and not content.endswith(b"\n"):
                    file.write(b"\n")
        except OSError as error:
            raise SimulationError(f"{path} cannot be written ({error.strerror}); choose another --trials") from error
        for line in content.decode(errors="replace").splitlines():
            try:
                record = json.loads(line)
                self._known[_key(record["trial"])] = [Outcome(*row) for row in record["outcomes"]]
            except (ValueError, KeyError, TypeError):
                continue  # half a line

    def __len__(self) -> int:
        return len(self._known)

    def find(self, trial: Trial) -> list[Outcome] | None:
        """Return the outcomes of a trial that has been run before."""
        return self._known.get(_key(self._description(trial)))

    def add(self, trial: Trial, outcomes: Sequence[Outcome]) -> None:
        """Keep a finished trial; it is on the disk when this returns.

        Raises:
            SimulationError: The disk is full, or the file is gone.
        """
        description = self._description(trial)
        rows = [list(asdict(outcome).values()) for outcome in outcomes]
        finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = json.dumps({"trial": description, "outcomes": rows, "finished": finished}, allow_nan=False)
        try:
            with self.path.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()  # all of it or an error, where a raw write may be short
                os.fsync(file.fileno())
        except OSError as error:
            raise SimulationError(f"{self.path} cannot be written ({error.strerror}); free some space") from error
        self._known[_key(description)] = list(outcomes)

    def _description(self, trial: Trial) -> dict[str, Any]:
        episodes = {"seeds": list(trial.seeds), "batch_size": trial.batch_size}
        return {**self._place, "task": trial.task, **trial.options.identity(), **episodes}


def _key(description: Mapping[str, Any]) -> str:
    return json.dumps(description, sort_keys=True)


@dataclass(frozen=True)
class Trials:
    """Runs configurations on seeds, trial by trial, and runs none twice. What `halving.halve` is given to run.

    Attributes:
        bundle: Folder of the bundle.
        tasks: What its critic is for; seeds take turns with several tasks.
        batch_size: Episodes that share an inference.
        block: Most episodes of a trial.
        store: Where finished trials are kept.
        execute: What runs them.
        progress: Called with each trial and its outcomes, whether it ran or was there.
    """

    bundle: Path
    tasks: tuple[int | None, ...]
    batch_size: int
    block: int
    store: TrialStore
    execute: Execute
    progress: Callable[[Trial, Sequence[Outcome]], None] = lambda trial, outcomes: None

    def __call__(self, configurations: Sequence[RunOptions], seeds: range) -> Outcomes:
        """Return the outcomes of every configuration in the order of the seeds."""
        found: Outcomes = {options: [] for options in configurations}
        missing = []
        for trial in self.trials(configurations, seeds):
            outcomes = self.store.find(trial)
            if outcomes is None:
                missing.append(trial)
            else:
                self._take(found, trial, outcomes)
        for trial, outcomes in self.execute(missing) if missing else ():
            self.store.add(trial, outcomes)
            self._take(found, trial, outcomes)
        return {name: sorted(outcomes, key=lambda outcome: outcome.seed) for name, outcomes in found.items()}

    def trials(self, configurations: Sequence[RunOptions], seeds: range) -> Iterator[Trial]:
        """Yield the trials that hold these episodes, whether they have run or not.

        Seed by seed and configuration by configuration, so that every rate settles early.
        """
        for start in range(0, len(seeds), self.block * len(self.tasks)):
            turn = seeds[start : start + self.block * len(self.tasks)]
            for options in configurations:
                for place, task in enumerate(self.tasks):
                    mine = tuple(seed for seed in turn if seed % len(self.tasks) == place)
                    if mine:
                        yield Trial(self.bundle, self.store.fingerprint, task, options, mine, self.batch_size)

    def _take(self, found: Outcomes, trial: Trial, outcomes: Sequence[Outcome]) -> None:
        found[trial.options].extend(outcomes)
        self.progress(trial, outcomes)
