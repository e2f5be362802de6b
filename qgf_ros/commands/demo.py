"""`qgf demo`: a ROS 2 policy node against the simulation bridge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qgf_ros.commands.show.arguments import Numbers, run_arguments
from qgf_ros.control.run_options import RunOptions


def demo(
    *,
    bundle: Path = Path("models/cube-single"),
    task: int = 2,
    episodes: int = 10,
    guidance_weights: Numbers | None = None,
    json: Path | None = None,
    force: bool = False,
    dashboard: bool = False,
    port: int = 8080,
    options: Annotated[RunOptions, run_arguments(without=["guidance_weight"])],
) -> None:
    """Let a ROS 2 policy node solve a task in the MuJoCo bridge, over DDS.

    Bridge and node run as processes of their own in a ROS domain of their own; the same seeded episodes are run at
    each guidance weight, of which 0 is plain behaviour cloning.

    Args:
        bundle: Folder or name of the bundle.
        task: Single-task number.
        episodes: Episodes per guidance weight; with --dashboard, before the next one.
        guidance_weights: One run each, separated by commas; by default 0, and the recommended weight with what is recommended
            beside it.
        json: Report to write.
        force: Replace a report that is there.
        dashboard: Serve a page to look at and to steer by instead: episodes follow one another in real time until Ctrl-C, some
            at each weight until somebody sets one.
        port: TCP port of that page.
        options: How the node runs; the seed is that of the first episode.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.display import RunDisplay
    from qgf_ros.commands.show.interruptions import interruptions
    from qgf_ros.errors import SimulationError
    from qgf_ros.evaluation.results import default_weights, summaries, write_report
    from qgf_ros.files.destination import check_destination
    from qgf_ros.reports.origin import origin

    _check_rclpy()
    from qgf_ros.evaluation.plan import EpisodePlan, with_settings
    from qgf_sim.live.demo import run_demo, serve_demo
    from qgf_sim.worlds.picture_setting import check_rendering

    bundle = locate_bundle(bundle)
    manifest = load_manifest(bundle)
    check_rendering(manifest.training.get("rendering"), f"bundle {manifest.name}")
    chosen = default_weights(manifest, task, options) if guidance_weights is None else guidance_weights
    plan = EpisodePlan(bundle, task, chosen, episodes, options, as_recommended=guidance_weights is None)
    if dashboard:
        if json is not None:
            raise SimulationError(
                "--json was given with --dashboard, which runs no fixed episodes; leave one of them out"
            )
        with interruptions() as interrupted:
            serve_demo(plan, port, Console().print, interrupted)
        return
    plan.check(manifest)  # before a line of progress
    check_destination(json, force=force, option="--json")
    title = f"{bundle.name}, task {task}, over ROS 2"
    runs: list[dict[str, Any]] = []
    for part in plan.beside_plain(manifest):
        if told := part.announcement(manifest):
            Console().print(told, highlight=False, soft_wrap=True)
        with interruptions() as interrupted, RunDisplay(Console(), title, chosen, episodes) as display:
            results = run_demo(part, display, interrupted.grant)
        found = with_settings(summaries(task, results), part, manifest)
        display.conclude(found)
        runs += found
    if json is not None:
        write_report(json, {**origin(bundle), "runs": runs, "seed": options.seed, **options.record()})


def _check_rclpy() -> None:
    """Raise SimulationError if rclpy is there but does not load; a missing one is reported by its import."""
    from qgf_ros.errors import SimulationError

    try:
        import rclpy  # noqa: F401
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise SimulationError(
            f"rclpy is installed but does not load ({error}); unset _ROS_WHEELS_BOOTSTRAP_COMPLETE, "
            "or source the ROS 2 installation it belongs to"
        ) from error
