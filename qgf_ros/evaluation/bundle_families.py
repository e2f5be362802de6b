"""Bundles of one recipe and several training seeds: which belong together, and which seed each was trained with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qgf_ros.bundle.locate import is_bundle, locate_bundle
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import load_manifest
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import environment_of
from qgf_ros.evaluation.results import tasks_of
from qgf_ros.evaluation.trials import fingerprint

#: FAMILY:SEED=BUNDLE, FAMILY=BUNDLE or :SEED=BUNDLE, and ROW@ before it.
_NAMED = re.compile(r"((?P<row>[\w.-]+)@)?(?P<family>[\w.-]*)(:(?P<seed>\d+))?=(?P<bundle>.+)")
#: In place of a training seed that a manifest does not have; seeds are at least 0.
UNKNOWN = -1
#: What a recipe says of critics that another run trained: what they are, but not which.
_OF_CRITICS = ("algorithm", "hidden", "ensemble", "aggregate")
#: What differs between training seeds, or says only how fast a run was.
_NO_RECIPE = {"seed", "compile"}


@dataclass(frozen=True)
class TrainedBundle:
    """A bundle and its place among others.

    Attributes:
        family: What it shares with the bundles of other training seeds, by name.
        training_seed: Which of them it is.
        path: Its folder, absolute.
        manifest: What it says of itself.
        row: What it is called as one method among those of its family, as a policy that was trained against a critic is; ""
            where every method runs on it.
    """

    family: str
    training_seed: int
    path: Path
    manifest: Manifest
    row: str = ""

    @property
    def tasks(self) -> tuple[int, ...]:
        """Single-task numbers that it has critics for."""
        return tasks_of(self.manifest)

    @property
    def place(self) -> tuple[str, int, str, tuple[int, ...]]:
        """Return where it stands in a table, where one bundle has room: as one method, there may be another one for each task."""
        return (self.family, self.training_seed, self.row, self.tasks if self.row else ())

    @property
    def fingerprint(self) -> str:
        """Checksum of everything but the evidence of tunings."""
        return fingerprint(self.manifest)

    def record(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "bundle": self.manifest.name,
            "training_seed": self.training_seed,
            "environment": environment_of(self.manifest),
            "fingerprint": self.fingerprint,
            "files": {name: record.sha256 for name, record in self.manifest.files.items()},
            **({"row": self.row, "tasks": list(self.tasks)} if self.row else {}),
            "training": _training_of(self.manifest),
        }


def trained_bundles(words: Sequence[str | Path]) -> tuple[TrainedBundle, ...]:
    """Return bundles in families and training seeds: family by family as first named, seeds in ascending order.

    A word is a folder or name of a bundle. Bundles of one environment and one recipe are a family, which is called after its
    environment, or after its first bundle where another family has the same environment. The training seed is the one in the
    manifest. ``FAMILY:SEED=BUNDLE`` says both, ``FAMILY=BUNDLE`` and ``:SEED=BUNDLE`` one of them. ``ROW@FAMILY:SEED=BUNDLE``, or
    without the seed, is one method of a family, under a name of its own; it may have a bundle for each task.

    Raises:
        BundleError: There is no such bundle, or it cannot be read.
        SimulationError: A bundle is of no simulated environment, a seed is not known or there twice, or the bundles of a
            family are of different environments or tasks, or are one and the same.
    """
    named = [_read(str(word)) for word in words]
    if not named:
        raise SimulationError("no bundle was given; give at least one, such as cube-single")
    if homeless := [bundle for bundle in named if bundle.row and not bundle.family]:
        raise SimulationError(
            f"{homeless[0].row}@ was given without a family; name the one it is a method of, as in "
            f"{homeless[0].row}@{environment_of(homeless[0].manifest)}={homeless[0].path.name}"
        )
    by_recipe = _names_of_recipes([bundle for bundle in named if not bundle.family])
    bundles = [replace(bundle, family=bundle.family or by_recipe[recipe_of(bundle.manifest)]) for bundle in named]
    names = dict.fromkeys(bundle.family for bundle in bundles)
    families = {name: [bundle for bundle in bundles if bundle.family == name] for name in names}
    found = []
    for name, members in families.items():
        rows = [member for member in members if member.row]
        usual = _checked(name, [member for member in members if not member.row])
        found += [*usual, *_checked_rows(usual, rows)]
    return tuple(found)


def _read(word: str) -> TrainedBundle:
    found = _NAMED.fullmatch(word)
    family, seed, row = "", None, ""
    if found and (found["row"] or found["family"] or found["seed"]) and not is_bundle(Path(word)):
        family, seed, row, word = found["family"], found["seed"], found["row"] or "", found["bundle"]
    path = locate_bundle(word).absolute()  # processes elsewhere have another working directory
    manifest = load_manifest(path)
    environment_of(manifest)
    return TrainedBundle(family, training_seed_of(manifest) if seed is None else int(seed), path, manifest, row)


def training_seed_of(manifest: Manifest) -> int:
    """Return the seed that a bundle was trained with, or `UNKNOWN`: an imported one does not say."""
    config = manifest.training.get("config")
    seed = config.get("seed") if isinstance(config, Mapping) else None
    return seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else UNKNOWN


def recipe_of(manifest: Manifest) -> str:
    """Return whatever bundles of several training seeds have in common, as a text to compare.

    That is environment, fields and goals, cameras, horizons, critics and training, without the seed, and how much data there
    was; which data is not in it, since every seed may have drawn its own.
    """
    training = manifest.training
    config = training.get("config")
    dataset, taken = training.get("dataset"), training.get("critics_from")
    recipe = {
        "environment": manifest.environment,
        "observation": [[field.name, field.size] for field in manifest.observation],
        "cameras": list(manifest.cameras),
        "contract": [field.model_dump(mode="json") for field in manifest.action],
        "goal": [manifest.goal, *manifest.goal_fields],
        "horizons": [manifest.horizon, manifest.execution_horizon, manifest.denoising_steps],
        "critics": {
            name: [card.task_id, card.discount, card.ensemble_size, card.aggregation]
            for name, card in manifest.critics.items()
        },
        "training": {key: training.get(key) for key in ("algorithm", "reward", "origin", "given_at_import")},
        "updates": training.get("updates"),
        "critics_from": [taken.get(key) for key in _OF_CRITICS] if isinstance(taken, Mapping) else None,
        "config": {key: value for key, value in config.items() if key not in _NO_RECIPE}
        if isinstance(config, Mapping)
        else None,
        "transitions": dataset.get("transitions") if isinstance(dataset, Mapping) else None,
    }
    return json.dumps(recipe, sort_keys=True, default=str)


def _names_of_recipes(bundles: Sequence[TrainedBundle]) -> dict[str, str]:
    first = {recipe_of(bundle.manifest): bundle.manifest for bundle in reversed(bundles)}
    environments = [environment_of(manifest) for manifest in first.values()]
    return {
        recipe: environment_of(manifest) if environments.count(environment_of(manifest)) == 1 else manifest.name
        for recipe, manifest in first.items()
    }


def _training_of(manifest: Manifest) -> dict[str, Any]:
    """Return how long a bundle was trained, None where it does not say; of several policies of one run all together."""
    hardware, taken = manifest.training.get("hardware"), manifest.training.get("critics_from")
    return {
        "updates": manifest.training.get("updates"),
        "seconds": hardware.get("seconds") if isinstance(hardware, Mapping) else None,
        "device": hardware.get("device") if isinstance(hardware, Mapping) else None,
        "critics_from": taken.get("sha256") if isinstance(taken, Mapping) else None,
    }


def _checked_rows(family: Sequence[TrainedBundle], rows: Sequence[TrainedBundle]) -> list[TrainedBundle]:
    """Return bundles that are one method each, in the order of their seeds; one without a seed has the family's first."""
    first = max((family or rows)[0].training_seed, 0) if rows else 0
    found = [replace(row, training_seed=first if row.training_seed == UNKNOWN else row.training_seed) for row in rows]
    for place, row in enumerate(found):
        for other in (*family, *found[:place]):
            if other.manifest.files == row.manifest.files:
                raise SimulationError(f"{other.path} and {row.path} hold the same networks; give each of them once")
            if environment_of(other.manifest) != environment_of(row.manifest):
                raise SimulationError(
                    f"{row.path} is of another environment than {other.path}; name it as a method of another family"
                )
        for other in found[:place]:
            if (other.row, other.training_seed) == (row.row, row.training_seed) and set(other.tasks) & set(row.tasks):
                raise SimulationError(
                    f"{other.path} and {row.path} are both {row.row} of training seed {row.training_seed} on one task; give "
                    "another seed or another name"
                )
    return sorted(found, key=lambda row: row.training_seed)


def _checked(name: str, members: Sequence[TrainedBundle]) -> list[TrainedBundle]:
    if not members:
        return []
    if len(members) == 1:
        (only,) = members
        return [replace(only, training_seed=max(only.training_seed, 0))]
    first = members[0]
    for place, member in enumerate(members):
        for other in members[:place]:
            if other.manifest.files == member.manifest.files:
                raise SimulationError(
                    f"{other.path} and {member.path} hold the same networks; give bundles of different training seeds"
                )
    for place, member in enumerate(members):
        name_it = f"{name}:1={member.path.name}"
        if member.training_seed == UNKNOWN:
            raise SimulationError(
                f"{member.path.name} does not say which seed it was trained with; give it, as in {name_it}"
            )
        for other in members[:place]:
            if other.training_seed == member.training_seed:
                raise SimulationError(
                    f"{other.path} and {member.path} are both training seed {member.training_seed} of {name}; give "
                    f"another seed, as in {name_it}, or another family, as in other={member.path.name}"
                )
        for what, of in (("environment", environment_of), ("tasks", tasks_of)):
            if of(member.manifest) != of(first.manifest):
                raise SimulationError(
                    f"{first.path} and {member.path} are of different {what}; name them as different families"
                )
    return sorted(members, key=lambda member: member.training_seed)
