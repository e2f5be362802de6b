"""Where bundles and robot profiles are found, so that `cube-single` and `ur5e` mean the same from a checkout, from pip
and under `ros2 run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from qgf_ros.errors import BundleError, ContractError
from qgf_ros.files.folders import recover_folder

#: The file of a bundle that says what the bundle is.
MANIFEST_NAME = "manifest.json"
#: The bundle that comes with the package.
DEFAULT_BUNDLE = "cube-single"


def _roots() -> Iterator[Path]:
    """Yield the folders that may hold ``models/`` and ``config/robots/``, nearest first."""
    yield Path.cwd()
    yield Path(__file__).resolve().parents[2]
    # A colcon workspace announces each install prefix in this variable; pip installs below sys.prefix.
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    yield from (Path(prefix, "share", "qgf_ros") for prefix in prefixes if prefix)


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a manifest, once one that a writer which died has left aside was put back."""
    path = folder / MANIFEST_NAME
    try:
        return path.is_file() or (recover_folder(folder) and path.is_file())
    except OSError:
        return False


def locate_bundle(name: str | os.PathLike[str] = DEFAULT_BUNDLE) -> Path:
    """Return the folder of a bundle.

    Args:
        name: Path of the folder, or a name such as ``cube-single`` (or ``models/cube-single``), which is looked for in
            ``models/`` of the working directory, of the checkout, and of the installed share folders, in this order.

    Returns:
        An absolute path that holds a manifest; its files are not checked here.

    Raises:
        BundleError: No such folder holds a manifest; the message lists the bundles there are.
    """
    given = Path(os.path.expanduser(name))
    roots = list(_roots())
    candidates = [given, *(root / folder / given for root in roots for folder in (".", "models"))]
    for candidate in candidates:
        if is_bundle(candidate):
            return candidate.resolve()
    known = sorted({path.parent.name for root in roots for path in root.glob(f"models/*/{MANIFEST_NAME}")})
    raise BundleError(
        f"bundle {os.fspath(name)!r} was given, but no folder of that path or name holds a {MANIFEST_NAME}; "
        f"give a path or one of these names: {', '.join(known) or 'none is installed'}"
    )


def locate_robot(name: str) -> Path:
    """Return the profile of a robot.

    Args:
        name: A name such as ``ur5e``, which is looked for in ``config/robots/`` where `locate_bundle` looks for ``models/``,
            or the path of a YAML file.

    Raises:
        ContractError: There is none; the message lists the robots there are.
    """
    roots = list(_roots())
    for candidate in (Path(os.path.expanduser(name)), *(root / "config" / "robots" / f"{name}.yaml" for root in roots)):
        if candidate.is_file():
            return candidate.resolve()
    known = sorted({path.stem for root in roots for path in root.glob("config/robots/*.yaml")})
    raise ContractError(
        f"robot {name!r} was given, but no profile has that name; give the path of one, or one of these names: "
        f"{', '.join(known) or 'none is installed'}"
    )
