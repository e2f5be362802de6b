"""`qgf render`: a film of an episode, one column per guidance weight."""

from __future__ import annotations

from pathlib import Path

from qgf_ros.commands.arguments import Weights


def render(
    bundle: Path,
    /,
    task: int = 2,
    seed: int = 0,
    weights: Weights | None = None,
    out: Path = Path("film.gif"),
    width: int = 320,
    height: int = 240,
    every: int = 2,
) -> None:
    """Film one seed at several guidance weights, side by side; needs a GL back end (MUJOCO_GL=egl).

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
        task: Single-task number.
        seed: Of the environment and of the noise.
        weights: Guidance weights, separated by commas; 0 and the recommended weight by default.
        out: Animated GIF to write.
        width: Of one column [px].
        height: Of one column [px].
        every: Control steps per frame.
    """
    import os

    os.environ.setdefault("MUJOCO_GL", "egl")

    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_sim.film import write_film
    from qgf_sim.results import default_weights

    bundle = locate_bundle(bundle)
    chosen = weights if weights is not None else default_weights(load_manifest(bundle), task)
    outcome = write_film(bundle, task, seed, chosen, out, size=(width, height), every=every)
    words = ", ".join(f"weight {weight:g} {'solved' if solved else 'not solved'}" for weight, solved in outcome.items())
    Console().print(f"{out}: {words}", highlight=False, soft_wrap=True)
