"""`qgf tune`: find and report the guidance weight of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qgf_ros.commands.show.arguments import Integers, Numbers, run_arguments, tried_arguments
from qgf_ros.control.run_options import ROWS, RunOptions, words

if TYPE_CHECKING:  # the command line loads what it needs when it runs
    from rich.console import Console

    from qgf_ros.bundle.manifest import Manifest
    from qgf_ros.evaluation.trials import Execute, Trial

#: Options of which several values may be tried.
TRIED = tuple(name for name, row in ROWS.items() if row.plural)


def tune(
    bundle: Path,
    /,
    *,
    tasks: Annotated[Integers | None, tyro.conf.arg(aliases=["--task"])] = None,
    guidance_weights: Numbers | None = None,
    choosing_episodes: int = 64,
    choosing_seed: int = 10_000,
    reporting_episodes: int = 100,
    reporting_seed: int = 20_000,
    workers: int | None = None,
    batch_size: int = 8,
    ray: str | None = None,
    ros: bool = False,
    outcomes: Literal["bridge", "service", "keys"] = "bridge",
    critic: str | None = None,
    node: str = "policy_node",
    bridge: str = "sim_bridge",
    trials: Path | None = None,
    json: Path | None = None,
    dry_run: bool = False,
    tried: Annotated[Mapping[str, tuple[Any, ...]], tried_arguments(without=["guidance_weight"])],
    options: Annotated[RunOptions, run_arguments(without=[*TRIED, "critic", "seed"])],
) -> None:
    """Choose each task's guidance weight in closed loop, then report it on seeds that had no say in the choice.

    Successive halving chooses; an exact McNemar test on the held-out seeds decides. A weight that is not better there
    than plain behaviour cloning with confidence is never recommended; the recommendation is then 0. It goes into the
    bundle's manifest, with its evidence. After Ctrl-C the same command goes on.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        tasks: Single-task numbers, separated by commas; all of the bundle by default.
        guidance_weights: What is tried, separated by commas; 0.0025 to 1.28, each twice the one before, by default, and 1 to
            15 where the bundle is guided by two velocity fields.
        choosing_episodes: Episodes to choose on, for a weight that lasts to the end.
        choosing_seed: First of their seeds.
        reporting_episodes: Episodes of plain BC and of the chosen weight to report.
        reporting_seed: First of their seeds.
        workers: Processes; every core by default.
        batch_size: Episodes that share an inference.
        ray: Ray cluster to run on: auto, local, HOST:PORT or ray://HOST:10001.
        ros: Tune the policy node that is running, through its parameters.
        outcomes: With --ros, who says how an episode ended: the simulation bridge, the services of /qgf_tune, or the
            keys of this terminal.
        critic: With --ros, critic of a robot's own task, which has no number.
        node: With --ros, name of the policy node.
        bridge: With --ros, name of the simulation bridge.
        trials: File of finished trials, JSON lines; runs/tune-NAME.jsonl by default.
        json: Whole table to write, with the outcome of every episode; a figure of the same name goes beside it.
        dry_run: Leave the manifest as it is.
        tried: What every weight is combined with.
        options: What else all episodes are run with; with --ros, the parameters of the node are.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import MANIFEST_NAME, locate_bundle
    from qgf_ros.bundle.own_graphs import usual_weights
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.analyses.output import at_least_one
    from qgf_ros.commands.show.arguments import here_or_on_a_cluster
    from qgf_ros.commands.show.display import progress_bar
    from qgf_ros.commands.show.tuning_display import Stages, show, write_table
    from qgf_ros.errors import SimulationError
    from qgf_ros.evaluation.halving import most_episodes, rung_sizes
    from qgf_ros.evaluation.recommendation import CAREFUL
    from qgf_ros.evaluation.trials import Trials, TrialStore
    from qgf_ros.evaluation.tuning import Protocol, critics_of, write_evidence
    from qgf_ros.evaluation.tuning import tune as search
    from qgf_ros.files.destination import check_destination
    from qgf_ros.reports.origin import origin

    if json is not None:
        import matplotlib  # noqa: F401  (that it is missing is to be noticed before the work)
    at_least_one(batch_size=batch_size, workers=1 if workers is None else workers)
    if outcomes != "bridge" and not ros:
        raise SimulationError(f"--outcomes {outcomes} was given without --ros; add it to tune the node that is running")
    if ray is not None and ros:
        raise SimulationError(f"--ray {ray} was given with --ros; a running graph has one robot, leave one of them out")
    here_or_on_a_cluster(workers, ray)
    if ros and options.changed():
        raise SimulationError(f"{words(options.changed())} was given with --ros; set it on the node, which keeps it")
    bundle = locate_bundle(bundle).absolute()  # processes elsewhere have another working directory
    manifest = load_manifest(bundle)
    protocol = Protocol(
        usual_weights(manifest) if guidance_weights is None else guidance_weights,
        *(choosing_episodes, choosing_seed, reporting_episodes, reporting_seed),
        tried=tried,
        base=replace(options, guidance_weight=0.0),
    )
    check_destination(json, force=True, option="--json")  # which a search that goes on writes again
    if not dry_run:
        check_destination((bundle / MANIFEST_NAME).resolve(), force=True, option="bundle, or give --dry-run")
    critics = critics_of(manifest, tasks or ()) if critic is None else {critic: tasks or (None,)}
    source = "processes" if not ros else "bridge" if outcomes == "bridge" else "robot"
    kept = trials or Path("runs") / f"tune-{bundle.name}.jsonl"
    reported = 3 if any(len(tried[name]) > 1 for name in CAREFUL) else 2
    most = most_episodes(len(protocol.configurations(manifest, "")), rung_sizes(choosing_episodes))
    console = Console()
    table: list[dict[str, Any]] = []
    graph = (node, outcomes, bridge) if ros else None
    # A robot has one episode at a time; in simulation a batch is refilled as its episodes end.
    batch_size, block = (1, 1) if ros else (batch_size, 2 * batch_size)
    try:
        with (
            progress_bar(console, "episodes") as bar,
            _execution(console, manifest, workers, ray, graph, max(protocol.guidance_weights)) as (
                execute,
                conditions,
                base,
            ),
        ):
            protocol = protocol if base is None else replace(protocol, base=base)
            store = TrialStore(kept, manifest, source, conditions)
            before = len(store)
            for name, numbers in critics.items():
                stages = Stages(bar, name, most, reported * reporting_episodes)

                def advance(trial: Trial, ended: Sequence[Any], stages: Stages = stages) -> None:
                    stages.add(len(ended), reporting=trial.seeds[0] in protocol.reporting_seeds)

                run = Trials(bundle, numbers, batch_size, block, store, execute, advance)
                found = search(manifest, name, protocol, run)
                stages.finish()
                show(console, f"{bundle.name}, {name}", found)
                if not dry_run:
                    write_evidence(bundle, name, found, "robot" if source == "robot" else "simulation", numbers)
                task = numbers[0] if len(numbers) == 1 else None
                table.append({"critic": name, "task": task, "tasks": numbers, **found})
                if json is not None:
                    write_table(json, {**origin(bundle), "source": source, "tasks": table})
            if len(store) == before:
                console.print(f"no episode had to be run, all are in {kept}", highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished trials are kept in {kept}, the same command goes on from there"
        ) from None


@contextmanager
def _execution(
    console: Console,
    manifest: Manifest,
    workers: int | None,
    ray: str | None,
    graph: tuple[str, Any, str] | None,
    largest: float,
) -> Iterator[tuple[Execute, str, RunOptions | None]]:
    """Give what runs trials: the running graph, a Ray cluster or processes of this machine.

    With it come a checksum of the conditions and the options in force that are not tried, both of a running graph.
    """
    if graph is not None:
        from qgf_ros.commands.show.interruptions import interruptions
        from qgf_sim.live.live_tuning import running_graph

        def say(text: str) -> None:
            console.print(text, highlight=False, soft_wrap=True)

        # Patient: nothing must keep the robot from holding, or the parameters from being put back.
        with interruptions(patient=True) as interrupted:
            with running_graph(manifest, *graph, say, interrupted.grant, largest) as found:
                yield found
        return
    from qgf_ros.reports.machine import usable_cores
    from qgf_sim.rollouts.trial_pools import local_processes, ray_cluster

    count = usable_cores() if workers is None else workers
    with ray_cluster(ray) if ray is not None else local_processes(count) as execute:
        yield execute, "", None
