"""Which modules are mutated, by area, and where their tests are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: Patterns of modules, relative to the checkout.
AREAS: Mapping[str, tuple[str, ...]] = {
    "control": ("qgf_ros/control/**/*.py",),
    "loop": ("qgf_ros/loop/*.py",),
    "recording": (
        "qgf_ros/recording/rows/*.py",
        *(
            f"qgf_ros/recording/{name}.py"
            for name in ("readings", "epochs", "records", "recording", "recorded_commands", "parameter_history")
        ),
    ),
    "bundle": tuple(f"qgf_ros/bundle/{name}.py" for name in ("store", "graphs", "fields", "manifest", "text")),
    "guidance": ("qgf_ros/guidance/*.py",),
    "fused": tuple(f"qgf_ros/runtime/{name}.py" for name in ("fused", "passes", "proof")),
}
#: Tests in process, as patterns below `test`. Those over DDS take seconds each, and would find what these should.
TESTS = (
    *(f"{folder}/**/test_*.py" for folder in ("guidance", "control", "loop", "bundle", "recording", "runtime")),
    *(f"nodes/test_{name}.py" for name in ("messages", "parameters")),
)


def modules(root: Path, area: str) -> list[str]:
    """Return the modules of an area of the checkout ``root``, as relative paths in alphabetical order."""
    found = {path.relative_to(root).as_posix() for pattern in AREAS[area] for path in root.glob(pattern)}
    return sorted(found)


def test_files(root: Path) -> list[str]:
    """Return the files of tests that may kill a mutant, as relative paths."""
    found = {path for pattern in TESTS for path in (root / "test").glob(pattern)}
    return sorted(path.relative_to(root).as_posix() for path in found)
