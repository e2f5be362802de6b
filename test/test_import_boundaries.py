"""The laws of the rooms: who may import whom, and which libraries. Read from the source, lazy imports included.

A room is a folder of product code, without its sub-rooms. The docstring of its ``__init__`` ends with its law, "Stands
on: bundle, errors. Libraries: numpy.": the other rooms and the third-party libraries that its files may import, or
"none". Rooms are named relative to `qgf_ros`; those of the folder ``sim/`` begin with ``qgf_sim``.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Bottom to top; a room and its sub-rooms are on one floor. Within a floor the laws themselves must not run in circles.
FLOORS = (
    ("errors", "files", "guidance"),
    ("bundle",),
    ("control", "learning", "reports"),
    ("launching",),
    ("runtime", "loop", "recording", "evaluation"),
    ("analysis", "nodes"),
    ("benchmark",),
    ("qgf_sim",),
    ("commands",),
    ("cli", "qgf_ros"),  # the two doors: `qgf`, and `from qgf_ros import …`
)

LAW = re.compile(r"(?P<about>.+?)\n\nStands on:\s(?P<rooms>.+?)\.\sLibraries:\s(?P<libraries>.+?)\.\n", re.DOTALL)


@dataclass(frozen=True)
class Law:
    """What the files of a room may import."""

    about: str
    rooms: frozenset[str]
    libraries: frozenset[str]

    @classmethod
    def read(cls, docstring: str | None) -> Law:
        """Return the law in a docstring, which is that of an ``__init__``."""
        found = LAW.fullmatch(docstring or "")
        assert found, f"no law in {docstring!r}; expected 'One sentence.', an empty line, 'Stands on: … Libraries: ….'"
        return cls(found["about"], _names(found["rooms"]), _names(found["libraries"]))


def _names(text: str) -> frozenset[str]:
    words = [word.strip() for word in text.split(",")]
    assert words == ["none"] or all(re.fullmatch(r"\w+(\.\w+)*", word) for word in words), (
        f"{text!r} is no list of names"
    )
    return frozenset(words) - {"none"}


#: Rooms of a single file, which is no place for a law: the docstring of `cli` is what `qgf --help` says.
SINGLE_FILES = {
    "errors": Law("", frozenset(), frozenset()),
    "cli": Law(
        "",
        frozenset({"errors", "launching", "commands", "commands.analyses", "commands.benchmarks", "commands.show"}),
        frozenset({"rich", "tyro"}),
    ),
}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("qgf_sim" if first == "sim" else first, *rest)).removesuffix(".__init__")


MODULES = {module_of(path): path for folder in ("qgf_ros", "sim") for path in sorted((ROOT / folder).rglob("*.py"))}


def room_of(module: str) -> str:
    """Return the room that a module of ours is in."""
    path = MODULES[module]
    room = module_of(path.parent / "__init__.py")
    if room == "qgf_ros" and path.name != "__init__.py":
        room = module
    return room.removeprefix("qgf_ros.")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names imported anywhere below a syntax tree: a module, or a name in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"line {node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> str | None:
    """Return the module of ours that a dotted name is, or is in; None for anything else."""
    if name in MODULES:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in MODULES else None


@functools.cache
def imported(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the modules of ours that a module imports, and the third-party libraries.

    The version stands in the package itself and costs nothing, so everybody may import it from there.
    """
    found = [name for name in imports(parse(MODULES[module])) if name != "qgf_ros.__version__"]
    top = {name.partition(".")[0] for name in found}
    libraries = top - {"qgf_ros", "qgf_sim"} - sys.stdlib_module_names
    unknown = [name for name in found if name.split(".")[0] in ("qgf_ros", "qgf_sim") and ours(name) is None]
    assert not unknown, f"{module} imports {unknown}, which is nowhere"
    return frozenset(filter(None, map(ours, found))), frozenset(libraries)


def folders() -> Iterator[Path]:
    """Yield every folder of product code."""
    yield from sorted({path.parent for path in MODULES.values()})


@functools.cache
def laws() -> dict[str, Law]:
    """Return the law of every room."""
    found = dict(SINGLE_FILES)
    for folder in folders():
        tree = parse(folder / "__init__.py")
        docstring = ast.get_docstring(tree, clean=False)
        found[room_of(module_of(folder / "__init__.py"))] = Law.read(docstring)
    return found


def used(room: str) -> tuple[set[str], set[str]]:
    """Return the other rooms and the libraries that the files of a room import."""
    modules = [module for module in MODULES if room_of(module) == room]
    rooms = {room_of(name) for module in modules for name in imported(module)[0]} - {room}
    return rooms, {name for module in modules for name in imported(module)[1]}


def floor_of(room: str) -> int:
    (level,) = (level for level, rooms in enumerate(FLOORS) if room.partition(".")[0] in rooms)
    return level


def rooms_below(room: str) -> set[str]:
    """Return the rooms that a room stands on, and what those stand on, and so on."""
    found: set[str] = set()
    waiting = [room]
    while waiting:
        new = laws()[waiting.pop()].rooms - found
        found |= new
        waiting += new
    return found


def wing(*names: str) -> set[str]:
    return {room for room in laws() if room.partition(".")[0] in names}


ROOMS = sorted({room_of(module) for module in MODULES})


@pytest.mark.parametrize("folder", list(folders()), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_folder_of_product_code_has_a_law(folder: Path) -> None:
    law = Law.read(ast.get_docstring(parse(folder / "__init__.py"), clean=False))
    assert law.about.endswith(".") and "\n\n" not in law.about, (
        "the law comes after one sentence that says what lives here"
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_what_its_room_may(module: str) -> None:
    room = room_of(module)
    modules, libraries = imported(module)
    rooms = {room_of(name) for name in modules} - {room} - laws()[room].rooms
    assert not rooms, f"{module} imports {', '.join(sorted(rooms))}; the law of {room} has no such room"
    libraries = libraries - laws()[room].libraries
    assert not libraries, f"{module} imports {', '.join(sorted(libraries))}; the law of {room} has no such library"


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in SINGLE_FILES])
def test_a_law_allows_nothing_that_is_not_used(room: str) -> None:
    rooms, libraries = used(room)
    stale = (laws()[room].rooms - rooms) | (laws()[room].libraries - libraries)
    assert not stale, f"no file of {room} imports {', '.join(sorted(stale))} any more; take it out of the law"


def test_laws_name_rooms_that_exist() -> None:
    assert {room for law in laws().values() for room in law.rooms} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room: str) -> None:
    above = {other for other in laws()[room].rooms if floor_of(other) > floor_of(room)}
    assert not above, f"{room} stands on {', '.join(sorted(above))}, which is on a higher floor"


def circle(arrows: dict[str, Iterable[str]]) -> list[str]:
    """Return a circle in a graph, or nothing."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_rooms_stand_in_an_order() -> None:
    """A folder and its sub-room that stand on each other count as one here; their files must not run in circles."""

    def place(room: str) -> str:
        parent = room.rpartition(".")[0]
        mutual = parent in laws() and room in laws()[parent].rooms and parent in laws()[room].rooms
        return place(parent) if mutual else room

    arrows: dict[str, set[str]] = {place(room): set() for room in laws()}
    for room, law in laws().items():
        arrows[place(room)] |= {place(other) for other in law.rooms} - {place(room)}
    assert not circle({room: sorted(others) for room, others in arrows.items()})


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not circle({module: imported(module)[0] - {module} for module in MODULES})


def test_the_wings_meet_in_the_bundle_alone() -> None:
    learning, robot = wing("learning"), wing("control", "runtime", "loop", "nodes", "recording")
    for one, other in ((learning, robot), (robot, learning)):
        for room in one:
            assert not rooms_below(room) & other, f"{room} reaches the other wing"


def test_only_sub_commands_and_the_simulation_import_the_simulation() -> None:
    users = {room for room in laws() if any(other.startswith("qgf_sim") for other in laws()[room].rooms)}
    assert {room.partition(".")[0] for room in users} <= {"commands", "qgf_sim"}


def test_nobody_inside_comes_in_by_the_front_door() -> None:
    """The face of the package is for programs; a room imports a name from where it is defined."""
    assert not [module for module in MODULES if module != "qgf_ros" and "qgf_ros" in imported(module)[0]]


def test_only_the_parity_checks_run_models_in_the_learning_wing() -> None:
    users = {MODULES[m].name for m in MODULES if room_of(m) in wing("learning") and "onnxruntime" in imported(m)[1]}
    assert users <= {"parity.py", "import_checkpoint.py"}


def test_a_bundle_without_cameras_needs_no_opencv() -> None:
    """What decodes pictures is loaded where a contract has cameras, and by nobody before."""
    modules = modules_of("bundle", "control", "loop", "learning.data", "recording")
    blind = [module for module in modules if room_of(module) != "control.vision"]
    script = (
        f"import importlib, sys\nfor name in {blind!r}: importlib.import_module(name)\nprint('cv2' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def modules_of(*parts: str) -> list[str]:
    """Return the modules of some rooms and of their sub-rooms."""
    return [module for module in MODULES if any(f"{room_of(module)}.".startswith(f"{part}.") for part in parts)]


@pytest.mark.parametrize(
    ("parts", "needed", "forbidden"),
    [
        (("errors", "files", "guidance"), (), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco", "pydantic")),
        (("bundle", "control"), ("cv2",), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("runtime",), ("onnxruntime",), ("torch", "rclpy", "mujoco")),
        (("loop",), (), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("recording",), ("mcap",), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("evaluation",), ("matplotlib",), ("torch", "onnx", "onnxruntime", "rclpy", "mujoco")),
        (("nodes",), ("mcap", "onnxruntime", "rclpy"), ("torch", "mujoco", "ogbench")),
        (("qgf_sim.live",), ("mcap", "onnxruntime", "rclpy"), ("torch", "mujoco", "ogbench")),
        # Every sub-command loads what it needs when it runs, so that `qgf --help` answers at once.
        (("cli",), (), ("torch", "onnxruntime", "rclpy", "mujoco", "ogbench", "numpy", "pydantic")),
        # The face loads a name when it is asked for.
        (("qgf_ros",), (), ("torch", "onnxruntime", "rclpy", "mujoco", "numpy", "pydantic")),
    ],
    ids=lambda value: "-".join(value) or "nothing",
)
def test_importing_a_part_does_not_load(
    parts: tuple[str, ...], needed: tuple[str, ...], forbidden: tuple[str, ...]
) -> None:
    """What the syntax trees cannot show: libraries loaded by libraries."""
    for name in needed:
        pytest.importorskip(name)
    script = (
        "import importlib, sys\n"
        f"for name in {modules_of(*parts)!r}: importlib.import_module(name)\n"
        f"print(*(name for name in {forbidden!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
