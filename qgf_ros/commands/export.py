"""`qgf export`: make a bundle of a training run."""

from __future__ import annotations

from pathlib import Path


def export(
    run: Path,
    /,
    out: Path,
    policy: str | None = None,
    members: int | None = None,
    aggregate: str | None = None,
    description: str = "",
    licence: str = "Apache-2.0",
    force: bool = False,
) -> None:
    """Make a bundle of a training run, checked against torch.

    Args:
        run: Folder written by qgf train.
        out: Folder of the bundle; its name becomes the bundle's.
        policy: Which policy, where the run's algorithm makes several.
        members: How many members of each critic the bundle gets, the first ones; all by default.
        aggregate: How they become one value: min, mean, or 'mean - RHO std'; the run's --aggregate by default.
        description: What the bundle is for.
        licence: Licence of the weights, as an SPDX identifier.
        force: Replace a bundle that is there.
    """
    from rich.console import Console

    from qgf_ros.bundle.store import check_bundle_destination
    from qgf_ros.commands.show.card import parity_table
    from qgf_ros.learning.export.export import export_bundle

    check_bundle_destination(out, force=force)
    manifest = export_bundle(
        run, out, policy=policy, members=members, aggregate=aggregate, description=description, licence=licence
    )
    console = Console()
    console.print(parity_table(manifest))
    console.print(
        f"{out}: {len(manifest.critics)} critics, {len(manifest.files)} files", highlight=False, soft_wrap=True
    )
