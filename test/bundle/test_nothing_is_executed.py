"""Files are read as data: nothing is unpickled, evaluated or imported on their behalf."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("qgf_ros", "sim") for path in (ROOT / folder).rglob("*.py"))

#: Modules that build objects as a file says.
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
#: Functions and loaders that do, as they are written in a call or an argument.
NAMES = {
    "eval",
    "exec",
    "__import__",
    "torch.load",
    "yaml.Loader",
    "yaml.FullLoader",
    "yaml.UnsafeLoader",
    "yaml.unsafe_load",
}


def offences(tree: ast.AST) -> list[str]:
    """Return what in a module could run or build what a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in NAMES:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            found += [f"{node.arg}=True"] if ast.unparse(node.value) == "True" else []
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles_or_evaluates(path: Path) -> None:
    assert offences(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_search_finds_what_it_looks_for() -> None:
    text = """
        import pickle
        from dill import loads
        eval(text)
        torch.load(path)
        np.load(path, allow_pickle=True)
        subprocess.run(command, shell=True)
        yaml.load(text, Loader=yaml.Loader)
        model.eval()
    """
    expected = ["pickle", "dill", "eval", "torch.load", "yaml.Loader", "allow_pickle=True", "shell=True"]
    assert sorted(offences(ast.parse(textwrap.dedent(text)))) == sorted(expected)


LOAD = """
import sys
from pathlib import Path
from qgf_ros.runtime.policy import Policy

good, bundle = Path(sys.argv[1]), Path(sys.argv[2])
Policy.load(good).warm_up()  # what the libraries import and open once
seen = []
sys.addaudithook(lambda event, arguments: seen.append((event, str(arguments[:1]))) if seen is not None else None)
Policy.load(bundle).warm_up()
events, seen = seen, None
forbidden = ("exec", "compile", "import", "pickle.find_class", "subprocess.Popen", "os.exec", "os.system", "socket.connect")
print([event for event in events if event[0] in forbidden])
opened = [what for event, what in events if event == "open"]
print([what for what in opened if str(bundle) not in what and not what.strip("(),").isdigit()])  # numbers: files open already
"""


def test_loading_opens_the_bundle_s_files_alone_and_runs_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """Watched by an audit hook, with code lying in the bundle, in the working directory too."""
    import shutil

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "hostile"))
    for name in ("__init__.py", "sitecustomize.py", "onnx.py", "critics/__init__.py"):
        (bundle / name).write_text("raise SystemExit('code of the bundle ran')")
    (bundle / "velocity.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(tiny_bundle), str(bundle)], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines() == ["[]", "[]"]
