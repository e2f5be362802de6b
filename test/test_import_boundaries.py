"""The floors and wings of the package: who may import whom. Read from the source, lazy imports included."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each part may import itself and the parts named here; every arrow points down. `runtime` stands on `control`, whose
# types it returns. The robot wing (control, runtime, nodes) and the learning wing meet in `bundle` alone.
BASE = {"errors", "guidance", "bundle"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "guidance": {"errors"},
    "bundle": {"errors", "guidance"},
    "control": BASE,
    "learning": BASE,
    "runtime": BASE | {"control"},
    "recording": BASE | {"control"},
    "nodes": BASE | {"control", "recording", "runtime"},
    "analysis": BASE | {"control", "learning", "runtime"},
    "qgf_sim": BASE | {"control", "learning", "runtime", "nodes", "analysis"},
    "cli": BASE | {"control", "learning", "recording", "runtime", "nodes", "analysis", "qgf_sim"},
}

# Which parts may import a heavy library, and no other.
LIBRARIES: dict[str, set[str]] = {
    "torch": {"learning", "analysis"},  # analysis: random networks, and a peer of the benchmark
    "jax": {"analysis"},
    "safetensors": {"learning"},
    "onnx": {"learning", "runtime", "analysis"},
    "matplotlib": {"analysis"},
    "onnxruntime": {"runtime", "learning"},
    "rclpy": {"nodes", "qgf_sim"},
    "mcap": {"recording"},
    "mcap_ros2": {"recording"},
    "mujoco": {"qgf_sim"},
    "ogbench": {"qgf_sim"},
    "gymnasium": {"qgf_sim"},
    "ray": {"qgf_sim"},
    "av": {"qgf_sim"},
    "viser": {"qgf_sim"},
    "websockets": {"qgf_sim"},
    "trimesh": {"qgf_sim"},
}


def part_of(module: str) -> str | None:
    """Return the part of the house a dotted name belongs to, or None for the bare package."""
    names = module.split(".")
    if names[0] == "qgf_sim":
        return "qgf_sim"
    part = names[1] if len(names) > 1 else None
    return "cli" if part == "commands" else part


def source_files() -> Iterator[tuple[Path, str]]:
    """Yield every source file with its part; the sub-commands are part of the command line."""
    for path in sorted((ROOT / "qgf_ros").rglob("*.py")):
        names = path.relative_to(ROOT).with_suffix("").parts
        if names[1:] != ("__init__",):
            yield path, "cli" if names[1] == "commands" else names[1]
    for path in sorted((ROOT / "sim").rglob("*.py")):
        yield path, "qgf_sim"


FILES = list(source_files())


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the absolute dotted names imported anywhere below a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            # `from qgf_ros import bundle` imports a part by its name.
            bare = node.module == "qgf_ros"
            yield from (f"qgf_ros.{alias.name}" for alias in node.names) if bare else (node.module,)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def case_ids() -> list[str]:
    return [str(path.relative_to(ROOT)) for path, _ in FILES]


def test_every_part_of_the_package_has_a_floor() -> None:
    assert {part for _, part in FILES} <= ALLOWED.keys()


@pytest.mark.parametrize(("path", "part"), FILES, ids=case_ids())
def test_imports_only_point_down(path: Path, part: str) -> None:
    ours = {part_of(name) for name in imports(parse(path)) if name.split(".")[0] in ("qgf_ros", "qgf_sim")}
    wrong = {name for name in ours if name is not None and name in ALLOWED} - ALLOWED[part] - {part}
    assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}; {part} may not"


@pytest.mark.parametrize(("path", "part"), FILES, ids=case_ids())
def test_heavy_libraries_stay_in_their_wing(path: Path, part: str) -> None:
    used = {name.split(".")[0] for name in imports(parse(path))}
    wrong = {name for name in used & LIBRARIES.keys() if part not in LIBRARIES[name] and part != "cli"}
    assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}; {part} may not"


def test_only_the_parity_checks_run_models_in_the_learning_wing() -> None:
    users = {path.name for path, part in FILES if part == "learning" and "onnxruntime" in set(imports(parse(path)))}
    assert users <= {"export.py", "conversion.py"}


def test_imports_are_absolute() -> None:
    relative = [
        path.relative_to(ROOT)
        for path, _ in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def modules_of(*parts: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path, part in FILES
        if part in parts
    ]


@pytest.mark.parametrize(
    ("parts", "needed", "forbidden"),
    [
        (("errors", "guidance"), (), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("bundle", "control"), (), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("runtime",), ("onnxruntime",), ("torch", "rclpy", "mujoco")),
        (("recording",), ("mcap",), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("nodes",), ("mcap", "onnxruntime", "rclpy"), ("torch", "mujoco", "ogbench")),
        # Every sub-command loads what it needs when it runs, so that `qgf --help` answers at once.
        (("cli",), (), ("torch", "onnxruntime", "rclpy", "mujoco", "ogbench", "numpy", "pydantic")),
    ],
    ids=lambda value: "-".join(value) or "nothing",
)
def test_importing_a_part_does_not_load(
    parts: tuple[str, ...], needed: tuple[str, ...], forbidden: tuple[str, ...]
) -> None:
    """What the syntax trees cannot show: libraries loaded by libraries."""
    for name in needed:
        pytest.importorskip(name)
    modules = ["qgf_ros.cli"] if parts == ("cli",) else modules_of(*parts)
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*(name for name in {forbidden!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
