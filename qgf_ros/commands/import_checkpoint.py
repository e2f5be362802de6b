"""`qgf import-checkpoint`: make a bundle of a checkpoint of the published QGF code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from qgf_ros.bundle.manifest import Manifest


def import_checkpoint(
    checkpoint: Path,
    /,
    env: str,
    out: Path,
    horizon: int | None = None,
    task: int = 2,
    discount: float = 0.99,
    denoising_steps: int = 10,
    aggregation: Literal["min", "mean"] = "min",
    activation: str = "gelu",
    description: str = "",
    licence: str = "NOASSERTION",
    force: bool = False,
) -> None:
    """Make a bundle of a checkpoint of the published QGF code, checked against a float64 network.

    The file is a pickle, of which nothing is run; neither JAX nor flax is needed. It does not hold the configuration
    of the run: --task, --discount, --denoising-steps, --aggregation and --activation are in flags.json beside it.

    Args:
        checkpoint: File params_STEP.pkl.
        env: Environment it was trained in, such as cube-single.
        out: Folder of the bundle; its name becomes the bundle's.
        horizon: Actions per chunk H; by default what the arrays say.
        task: Single task its critic was trained for; 2 is OGBench's own default for cubes and scenes.
        discount: Per control step.
        denoising_steps: Euler steps T.
        aggregation: How the ensemble becomes one value.
        activation: Of every hidden layer; only gelu can be imported.
        description: What the bundle is for.
        licence: Licence of the weights, as an SPDX identifier; NOASSERTION for unknown.
        force: Replace a bundle that is there.
    """
    from rich.console import Console

    from qgf_ros.bundle.store import check_bundle_destination
    from qgf_ros.errors import TrainingError
    from qgf_ros.learning.data.contract import Contract
    from qgf_ros.learning.published.import_checkpoint import import_checkpoint as convert
    from qgf_sim.worlds.environment import CONTROL_PERIOD
    from qgf_sim.worlds.families import action_fields, observation_fields

    if activation != "gelu":
        raise TrainingError(f"--activation {activation} was given; only networks with gelu can be imported")
    if task not in range(1, 6):
        raise TrainingError(f"--task {task} was given; {env} has tasks 1 to 5")
    check_bundle_destination(out, force=force)
    manifest = convert(
        checkpoint,
        out,
        Contract(observation_fields(env), action_fields(), 1.0 / CONTROL_PERIOD),
        critic=f"task{task}",
        task=f"{env} task {task}",
        task_id=task,
        environment=env,
        horizon=horizon,
        discount=discount,
        denoising_steps=denoising_steps,
        aggregation=aggregation,
        description=description,
        licence=licence,
    )
    Console().print(_summary(manifest, out), highlight=False, soft_wrap=True)


def _summary(manifest: Manifest, out: Path) -> str:
    worst = max(manifest.parity, key=lambda name: manifest.parity[name])
    given = ", ".join(f"{name} {value}" for name, value in manifest.training["given_at_import"].items())
    return (
        f"{out}: observation {manifest.observation_size}, chunk {manifest.horizon} x {manifest.action_size}, "
        f"{manifest.training['updates']} updates\n"
        f"largest difference from a float64 network: {manifest.parity[worst]:.1e} ({worst})\n"
        f"taken as given, because the checkpoint does not hold it: {given}"
    )
