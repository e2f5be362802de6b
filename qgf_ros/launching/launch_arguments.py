"""The arguments of the launch files: which names there are, what each may be, and what a bundle adds to them.

Launch files run in the Python of ROS 2, which has YAML but need not have what the nodes need: nothing here loads more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgf_ros.bundle.locate import MANIFEST_NAME, locate_bundle
from qgf_ros.control.run_options import ROWS
from qgf_ros.errors import ParameterError, QgfError, did_you_mean
from qgf_ros.launching.parameter_files import parameters_for

#: How alike two names have to be for the one to be the other, misspelt, where unknown names are nothing unusual.
_ALIKE = 0.8
_NAMESPACE = re.compile(r"/?([A-Za-z_][A-Za-z0-9_]*)(/[A-Za-z_][A-Za-z0-9_]*)*/?|/?")


@dataclass(frozen=True)
class Number:
    """An argument that is a number.

    Attributes:
        kind: int or float.
        lower, upper: Smallest and largest value.
    """

    kind: type[int] | type[float]
    lower: float
    upper: float

    def check(self, name: str, text: str) -> None:
        """Raise ParameterError unless a text is such a number."""
        try:
            value = self.kind(text)
        except ValueError:
            value = float("nan")
        if not self.lower <= value <= self.upper:
            kind = "a whole number" if self.kind is int else "a number"
            raise ParameterError(f"{name}:={text} was given; give {kind} from {self.lower} to {self.upper}")


def _row(name: str, kind: type[int] | type[float]) -> Number:
    return Number(kind, ROWS[name].lower, ROWS[name].upper)


#: The numbers of robot.launch.py; `guidance_weight` is a word, too.
NUMBERS = {
    "num_samples": _row("num_samples", int),
    "seed": _row("seed", int),
    "dashboard_port": Number(int, 0, 65535),
}


def check_names(words: Sequence[str], file: str, known: Collection[str]) -> None:
    """Refuse arguments that a launch file does not have, where it is the one that was launched.

    Args:
        words: Of the command line, such as ``["ros2", "launch", "qgf_ros", "sim.launch.py", "task:=2"]``.
        file: Name of the launch file.
        known: Names of its arguments. Where another file includes this one, further names are that file's own.

    Raises:
        ParameterError: There is such an argument.
    """
    places = [place for place, word in enumerate(words) if Path(word).name == file]
    if not places:
        return
    for word in words[places[0] + 1 :]:
        name, assigned, _ = word.partition(":=")
        if assigned and name not in known:
            hint = did_you_mean(name, known) or f"; ros2 launch qgf_ros {file} --show-args describes those it has"
            raise ParameterError(f"{file} has no argument {name}{hint}")


def likely_misspelt(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return a sentence for each name that nobody knows and that is near a known one."""
    return [
        f"argument {name} is not known here{hint}"
        for name in names
        if name not in known and (hint := did_you_mean(name, known, likeness=_ALIKE))
    ]


def check_numbers(values: Mapping[str, str], numbers: Mapping[str, Number]) -> None:
    """Raise ParameterError unless those of the arguments that are given are numbers in their ranges."""
    for name, number in numbers.items():
        if text := values.get(name, ""):
            number.check(name, text)


def weight(text: str) -> dict[str, float | bool]:
    """Return the parameters that an argument `guidance_weight` means; raises ParameterError where it means none."""
    if not text:
        return {}
    if text == "recommended":
        return {"use_recommended_weight": True}
    row = ROWS["guidance_weight"]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not row.lower <= value <= row.upper:
        raise ParameterError(
            f"guidance_weight:={text} was given; give a number from {row.lower:g} to {row.upper:g}, or recommended"
        )
    return {"guidance_weight": value, "use_recommended_weight": False}


def check_robot(values: Mapping[str, str]) -> None:
    """Check every argument of robot.launch.py before anything is started.

    Args:
        values: Text by name; an empty one is not given.

    Raises:
        ParameterError: An argument is wrong; the message names it.
    """
    check_namespace(values["namespace"])
    check_numbers(values, NUMBERS)
    weight(values["guidance_weight"])
    from_file = _named("params_file", parameters_for, Path(values["params_file"]), full_name(values, "policy_node"))
    bundle = values["bundle"] or str(from_file.get("bundle") or "")
    if not bundle and values["autostart"] == "true":
        raise ParameterError("no bundle was given, and params_file names none; give one, such as bundle:=cube-single")
    place = "bundle" if values["bundle"] else "params_file"
    critics = _named(place, manifest_of, bundle).get("critics", {}) if bundle else {}
    critic = values["critic"]
    if critic and bundle and critic not in critics:
        has = ", ".join(critics) or "none"
        raise ParameterError(f"critic:={critic} was given; bundle {bundle} has {has}")
    _check_file("contract", values["contract"])
    if file := values["record_file"]:
        if values["record"] != "true":
            raise ParameterError(f"record_file:={file} was given, and nothing is recorded; give record:=true as well")
        if Path(os.path.expanduser(file)).exists():
            raise ParameterError(f"record_file:={file} was given, and is there; give another name")


def of_the_run(values: Mapping[str, str]) -> dict[str, str]:
    """Return `bundle` and `contract` of the policy node, which its recorder is to have, too: of the arguments, else of the file.

    Args:
        values: Text by name of the two, `params_file` and `namespace`; an empty one is not given.

    Raises:
        ParameterError: The file cannot be read, or says nothing to the policy node.
    """
    from_file = parameters_for(Path(values["params_file"]), full_name(values, "policy_node"))
    found = {name: values[name] or str(from_file.get(name) or "") for name in ("bundle", "contract")}
    return {name: text for name, text in found.items() if text}


def check_namespace(namespace: str) -> None:
    """Raise ParameterError unless a text is a namespace of ROS; empty for none."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ParameterError(
            f"namespace:={namespace} was given; give letters, digits and _, such as cell, or /cell/arm"
        )


def resolve_simulation(values: Mapping[str, str], numbers: Mapping[str, Number]) -> dict[str, str]:
    """Check every argument of sim.launch.py, and return what follows from the bundle for those that were not given.

    Args:
        values: Text by name, with those of robot.launch.py that say which bundle runs; an empty one is not given.
        numbers: The arguments that are numbers.

    Returns:
        `environment` and `critic`: of the arguments, else of the bundle and the task, else of the files. An empty critic
        is the bundle's first.

    Raises:
        ParameterError: An argument is wrong; the message names it.
    """
    check_namespace(values["namespace"])
    check_numbers(values, numbers)
    of_bridge = _named(
        "sim_params_file", parameters_for, Path(values["sim_params_file"]), full_name(values, "sim_bridge")
    )
    of_node = _named("params_file", parameters_for, Path(values["params_file"]), full_name(values, "policy_node"))
    bundle = values["bundle"] or str(of_node.get("bundle") or "")
    manifest = _named("bundle" if values["bundle"] else "params_file", manifest_of, bundle) if bundle else {}
    if (values["mode"] or of_bridge.get("mode")) == "replay":
        if not (values["replay_file"] or of_bridge.get("replay_file")):
            raise ParameterError("mode:=replay was given without a recording; give replay_file:=DATA_SET.npz as well")
        _check_file("replay_file", values["replay_file"])
    own = str(manifest.get("environment") or "")
    environment = values["environment"]
    if environment and own and environment != own:
        raise ParameterError(
            f"environment:={environment} was given, and bundle {bundle} is for {own}; leave environment out, or give "
            "another bundle"
        )
    task = values["task"] or of_bridge.get("task", 1)
    of_the_task = f"task{task}" if f"task{task}" in manifest.get("critics", {}) else ""
    return {
        "environment": environment or own,
        "critic": values["critic"] or str(of_node.get("critic") or of_the_task),
    }


def full_name(values: Mapping[str, str], node: str) -> str:
    """Return the full name of a node in the namespace that is given."""
    return "/".join(["", *filter(None, values["namespace"].split("/")), node])


def manifest_of(bundle: str) -> dict[str, Any]:
    """Return what the manifest of a bundle says, unchecked: its node checks it.

    Raises:
        BundleError: There is no such bundle.
        ParameterError: Its manifest cannot be read.
    """
    path = locate_bundle(bundle) / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path} cannot be read ({error}); give another bundle") from error
    return content if isinstance(content, dict) else {}


def _named(argument: str, read: Any, *values: Any) -> dict[str, Any]:
    """Read what an argument names; what is wrong with it is said with its name."""
    try:
        found: dict[str, Any] = read(*values)
    except QgfError as error:
        raise ParameterError(f"argument {argument}: {error}") from error
    return found


def _check_file(name: str, text: str) -> None:
    if text and not Path(os.path.expanduser(text)).is_file():
        raise ParameterError(f"{name}:={text} was given, and there is no such file; give the path of one")
