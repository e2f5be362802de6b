"""What ties a table or a figure to where it came from."""

from __future__ import annotations

from pathlib import Path


def origin(bundle: Path | None = None) -> dict[str, object]:
    """Return the command, the bundle's files, the machine and the version.

    Args:
        bundle: Folder of the bundle, where there is one.
    """
    import os
    import platform
    import shlex
    import sys

    from qgf_ros import __version__
    from qgf_ros.bundle.store import load_manifest

    files = {} if bundle is None else {name: record.sha256 for name, record in load_manifest(bundle).files.items()}
    return {
        "command": shlex.join(["qgf", *sys.argv[1:]]),
        **({} if bundle is None else {"bundle": bundle.name, "files": files}),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "version": __version__,
    }
