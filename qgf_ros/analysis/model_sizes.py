"""What larger networks are worth: success and held-out loss against the number of parameters (the paper's Figure 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qgf_ros.bundle.layers import PARTS
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.bundle.store import critic_file, load_manifest
from qgf_ros.errors import SimulationError
from qgf_ros.reports.statistics import compare_paired, wilson_interval


@dataclass(frozen=True)
class SizedBundle:
    """A bundle and how large it is.

    Attributes:
        name: Of the bundle.
        fingerprint: Of the bundle, by which its records are found.
        series: What it shares with bundles of other sizes: its algorithm, and whether it is the flow that imitates beside
            trained actors.
        hidden: Its layers, as "3x256"; "" where nobody knows.
        velocity, critic: Parameters of the velocity field, and of one critic with all of its members.
        held_out: Loss of the critics on held-out data, per task; None where the run did not validate, or took its critics.
        updates: Of its training.
    """

    name: str
    fingerprint: str
    series: str
    hidden: str
    velocity: int
    critic: int
    held_out: float | None
    updates: int | None

    @classmethod
    def read(cls, bundle: Path, fingerprint: str) -> SizedBundle:
        """Return what a bundle says of its size.

        Args:
            bundle: Folder.
            fingerprint: See above.

        Raises:
            BundleError: The bundle is missing or damaged.
        """
        manifest = load_manifest(bundle)
        training = manifest.training
        loss = training.get("held_out", {}).get("losses", {}).get("critic")
        return cls(
            manifest.name,
            fingerprint,
            _series(training),
            layers_of(manifest),
            parameter_count(bundle / "velocity.onnx"),
            parameter_count(bundle / critic_file(next(iter(manifest.critics)))),
            None if loss is None else float(loss),
            training.get("updates"),
        )


def layers_of(manifest: Manifest) -> str:
    """Return hidden layers as "3x256", or one by one where they differ; "" for a bundle that does not say.

    Critics of other layers are told behind the policy: "4x512, critics 3x256".
    """
    config, taken = manifest.training.get("config", {}), manifest.training.get("critics_from", {})
    policy = _layers(config.get("hidden", []))
    critics = _layers(taken.get("hidden") or config.get("critic_hidden") or [])
    return f"{policy}, critics {critics}" if critics not in ("", policy) else policy


def _layers(hidden: Sequence[int]) -> str:
    return f"{len(hidden)}x{hidden[0]}" if len(set(hidden)) == 1 else "-".join(map(str, hidden))


def _series(training: Mapping[str, Any]) -> str:
    """Return the algorithm; of the flow beside actors "qam flow"."""
    algorithm = str(training.get("algorithm", "iql_flow"))
    imitates = str(training.get("policy", "")).startswith("one behaviour-cloned velocity field")
    return f"{algorithm} flow" if imitates and not algorithm.endswith("flow") else algorithm


def parameter_count(path: Path) -> int:
    """Return how many numbers were learnt of a graph that the exporter wrote.

    They carry the names of `bundle.layers`; where none does, as in the sampler of a diffusion model, they are what enters
    matrix products, without what became of the diffusion step.
    """
    graph = onnx.load(str(path)).graph
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer}
    named = [size for name, size in sizes.items() if _is_weight(name)]
    if named:
        return sum(named)
    used = {name for node in graph.node if node.op_type in ("Gemm", "MatMul") for name in node.input[1:]}
    return sum(size for name, size in sizes.items() if name in used)


def _is_weight(name: str) -> bool:
    network, _, rest = name.partition(".")
    layer, _, part = rest.partition(".")
    return bool(network) and layer.isdigit() and part in PARTS


def check_apart(bundles: Sequence[tuple[SizedBundle, int, Sequence[int]]]) -> None:
    """Raise SimulationError where two bundles would count twice at one point: same series, size, training seed and task.

    Args:
        bundles: Each with its training seed and its tasks.
    """
    known: dict[tuple[str, int, str, int, int], str] = {}
    for one, seed, tasks in bundles:
        for task in tasks:
            other = known.setdefault((one.series, one.velocity, one.hidden, seed, task), one.name)
            if other != one.name:
                raise SimulationError(
                    f"{other} and {one.name} are both {one.series} of one size with training seed {seed}, for task {task}; give "
                    "one of them, as a series differs in --hidden and --seed alone"
                )


def sizes_report(bundles: Sequence[SizedBundle], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a point for each series, method and size, sizes in ascending order.

    Args:
        bundles: All of them.
        records: Of each bundle, task and method, from `qgf_sim.rollouts.method_trials.record_of`.

    Returns:
        Per point ``{"series", "method", "hidden", "velocity", "critic", "bundles", "tasks", "weights", "successes", "episodes",
        "success_rate", "ci95", "held_out_loss", "versus_smallest"}``, the last one the paired difference from the smallest
        size of the series on the tasks and training seeds of both; None for the smallest itself, and where they differ.
    """
    points: dict[tuple[str, str, int, str], list[tuple[SizedBundle, Mapping[str, Any]]]] = {}
    for bundle in bundles:
        for record in records:
            if record["fingerprint"] == bundle.fingerprint:
                key = (bundle.series, record["method"], bundle.velocity, bundle.hidden)
                points.setdefault(key, []).append((bundle, record))
    found = []
    for (series, method, size, hidden), members in sorted(points.items()):
        smallest = min(key for key in points if key[:2] == (series, method))
        found.append(
            {
                "series": series,
                "method": method,
                "hidden": hidden,
                "velocity": size,
                "critic": members[0][0].critic,
                **_success([record for _, record in members]),
                "held_out_loss": _mean([bundle.held_out for bundle, _ in members]),
                "bundles": list(dict.fromkeys(bundle.name for bundle, _ in members)),
                "versus_smallest": None
                if smallest == (series, method, size, hidden)
                else _versus(points[smallest], members),
            }
        )
    return found


def _success(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    solved, episodes = (sum(record["reporting"][key] for record in records) for key in ("successes", "episodes"))
    return {
        "tasks": sorted({record["task"] for record in records}),
        "weights": [record["weight"] for record in records],
        "successes": solved,
        "episodes": episodes,
        "success_rate": solved / episodes,
        "ci95": wilson_interval(solved, episodes),
    }


def _mean(losses: Sequence[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return float(np.mean(known)) if known else None


def _versus(
    small: Sequence[tuple[SizedBundle, Mapping[str, Any]]], large: Sequence[tuple[SizedBundle, Mapping[str, Any]]]
) -> dict[str, Any] | None:
    mine, theirs = ({_place(record): record for _, record in members} for members in (large, small))
    if mine.keys() != theirs.keys():
        return None
    each = [
        [won for place in mine for won in found[place]["reporting"]["outcomes"]["success"]] for found in (theirs, mine)
    ]
    paired = compare_paired(*each)
    return {"difference": paired.difference, "ci95": paired.ci95, "p_value": paired.p_value}


def _place(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["task"], record["training_seed"]
