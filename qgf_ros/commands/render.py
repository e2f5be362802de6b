"""`qgf render`: a film of an episode, one column per guidance weight, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qgf_ros.commands.show.arguments import Numbers, run_arguments
from qgf_ros.control.run_options import RunOptions


def render(
    folder: Path | None = None,
    /,
    *,
    bundle: Path | None = None,
    task: int = 2,
    guidance_weights: Numbers | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    width: int = 320,
    height: int = 240,
    every: int = 2,
    force: bool = False,
    options: Annotated[RunOptions, run_arguments(without=["guidance_weight"])],
) -> None:
    """Film one seed at several guidance weights, side by side, with Q and outcome; needs a GL back end (MUJOCO_GL=egl).

    Beside the scene stands what the policy sees, where the bundle has cameras.

    Args:
        folder: Folder or name of the bundle, such as cube-single; or give --bundle.
        bundle: The same by name; the bundle cube-single by default.
        task: Single-task number.
        guidance_weights: One column each, separated by commas; by default 0, and the recommended weight with what is recommended
            beside it.
        out: Film to write, .gif or .mp4; film.gif by default, none if only a sheet is asked for.
        sheet: Contact sheet to write, .png: a row per weight.
        width: Of the scene in one column [px].
        height: Of one column [px].
        every: Control steps per frame.
        force: Replace a film or a sheet that is there.
        options: How the episode is run.
    """
    import os

    os.environ.setdefault("MUJOCO_GL", "egl")

    from rich.console import Console

    from qgf_ros.bundle.locate import DEFAULT_BUNDLE, locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.errors import BundleError
    from qgf_ros.evaluation.plan import EpisodePlan
    from qgf_ros.evaluation.results import default_weights
    from qgf_ros.files.destination import check_destination
    from qgf_sim.rollouts.film import write_film

    if folder is not None and bundle is not None:
        raise BundleError(f"bundles {folder} and {bundle} were given; name one")
    found = locate_bundle(folder or bundle or DEFAULT_BUNDLE)
    manifest = load_manifest(found)
    chosen = default_weights(manifest, task, options) if guidance_weights is None else guidance_weights
    plan = EpisodePlan(found, task, chosen, 1, options, as_recommended=guidance_weights is None)
    if out is None and sheet is None:
        out = Path("film.gif")
    check_destination(out, force=force)
    check_destination(sheet, force=force, option="--sheet")
    outcome = write_film(plan, out, sheet, size=(width, height), every=every)
    words = ", ".join(f"weight {weight:g} {'solved' if solved else 'not solved'}" for weight, solved in outcome.items())
    files = " and ".join(str(path) for path in (out, sheet) if path is not None)
    lines = [f"{files}: {words}", plan.announcement(manifest)]
    Console().print("\n".join(line for line in lines if line), highlight=False, soft_wrap=True)
