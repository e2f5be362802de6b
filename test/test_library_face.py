"""The names that `from qgf_ros import …` gives a program, and the program in README."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qgf_ros

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, folder: Path = ROOT) -> str:
    """Run a script in a process of its own, as a program that uses the package; return what it prints."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example() -> str:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## In a program\n")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return program


def test_the_face_is_ten_names() -> None:
    assert len(qgf_ros.__all__) == len(set(qgf_ros.__all__)) == 10
    assert set(qgf_ros.__all__) <= set(dir(qgf_ros))
    assert "__version__" in dir(qgf_ros)


@pytest.mark.parametrize("name", qgf_ros.__all__)
def test_each_name_is_the_one_that_type_checkers_see(name: str) -> None:
    """What is loaded at run time is what stands below TYPE_CHECKING."""
    tree = ast.parse((ROOT / "qgf_ros" / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    if homes[name].startswith("qgf_ros.runtime"):
        pytest.importorskip("onnxruntime", reason="inference needs the cpu or the gpu extra")
    assert getattr(qgf_ros, name) is getattr(sys.modules[homes[name]], name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="qgf_ros.*load_bundel"):
        _ = qgf_ros.load_bundel


def test_only_what_is_asked_for_is_loaded() -> None:
    script = (
        "import sys, qgf_ros; qgf_ros.{}; print(*(n for n in ('numpy', 'pydantic', 'onnxruntime') if n in sys.modules))"
    )
    assert run(script.format("QgfError")).split() == []
    assert run(script.format("Guidance")).split() == ["numpy"]
    assert run(script.format("Controller")).split() == ["numpy", "pydantic"]


def test_the_program_in_readme_commands_the_robot(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="inference needs the cpu or the gpu extra")
    program = example()
    lines = program.splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 120
    said = [ast.literal_eval(line) for line in run(program, tmp_path).splitlines()]
    assert len(said) == 3
    fields = qgf_ros.load_bundle("cube-single").manifest.action
    for command in said:
        assert list(command) == [field.name for field in fields]
        assert all(field.lower <= command[field.name] <= field.upper for field in fields)
        assert any(command.values())
