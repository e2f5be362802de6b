"""`qgf inspect`: what is in a bundle."""

from __future__ import annotations

from pathlib import Path


def inspect(bundle: Path, /) -> None:
    """Check a bundle's files and print its card.

    Args:
        bundle: Folder or name of the bundle, such as cube-single.
    """
    from rich.console import Console

    from qgf_ros.bundle.locate import locate_bundle
    from qgf_ros.bundle.store import load_manifest
    from qgf_ros.commands.show.card import card

    # Tables keep to the width of the console; of a drawing that is wider nothing is lost.
    Console().print(card(load_manifest(locate_bundle(bundle))), crop=False)
