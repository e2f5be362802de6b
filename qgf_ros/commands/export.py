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
    """Make a bundle of a training run, checked against torch; or one for each of its policies.

    Args:
        run: Folder written by qgf train.
        out: Folder of the bundle; its name becomes the bundle's. Where there are several policies and none is named, each
            gets a bundle of its own, OUT-POLICY.
        policy: Which policy, where the run's algorithm makes several; all by default.
        members: How many members of each critic the bundle gets, the first ones; all by default.
        aggregate: How they become one value: min, mean, or 'mean - RHO std'; the run's --aggregate by default.
        description: What the bundle is for.
        licence: Licence of the weights, as an SPDX identifier.
        force: Replace a bundle that is there.
    """
    from rich.console import Console

    from qgf_ros.bundle.store import check_bundle_destination
    from qgf_ros.commands.show.card import parity_table
    from qgf_ros.learning.export.export import export_bundle, policy_names

    check_bundle_destination(out, force=force)
    names = policy_names(run) if policy is None else [policy]
    bundles = {out: names[0]} if len(names) == 1 else {out.with_name(f"{out.name}-{name}"): name for name in names}
    for path in bundles:
        check_bundle_destination(path, force=force)
    console = Console()
    for path, name in bundles.items():
        manifest = export_bundle(
            run, path, policy=name, members=members, aggregate=aggregate, description=description, licence=licence
        )
        console.print(parity_table(manifest))
        critics = f"{len(manifest.critics)} critic{'s'[: len(manifest.critics) != 1]}"
        console.print(f"{path}: {critics}, {len(manifest.files)} files", highlight=False, soft_wrap=True)
