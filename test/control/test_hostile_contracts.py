"""Files that somebody hands over as a robot contract: each is a contract or one sentence, within bounds of time and memory."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qgf_ros.control.profiles.robot_profile import read_profile
from qgf_ros.control.robot_contract import RobotContract, read_robot_contract
from qgf_ros.errors import ContractError
from qgf_ros.files import plain_yaml
from qgf_ros.files.plain_yaml import LARGEST_FILE


def laughs(depth: int, width: int, leaf: str) -> str:
    """Return anchors of which each names the one before it many times."""
    lines = [f"a0: &a0 {leaf}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth + 1)]
    return "\n".join(lines) + "\n"


def merges(depth: int, width: int) -> str:
    lines = ["b0: &b0 {x: 1}"]
    lines += [f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * width)}]}}" for i in range(1, depth + 1)]
    return "\n".join(lines) + "\n"


def factor(text: str) -> str:
    return f"fields: {{object_0_position: {{factor: {text}}}}}\n"


#: What is wrong with each, as the message says it.
HOSTILE = {
    "aliases of aliases": (laughs(9, 9, "lol"), "more than 10000 values"),
    "aliases as a key": (laughs(9, 9, "[1]") + "fields: {? *a9 : 1}\n", "more than 10000 values"),
    "merges of merges": (merges(9, 9), "more than 10000 values"),
    "merges, few enough": (merges(3, 9), "b0: Extra inputs"),
    "a function": ("fields: !!python/object/apply:os.system ['touch PWNED']\n", "could not determine a constructor"),
    "a name": ("alignment: !!python/name:os.system\n", "could not determine a constructor"),
    "a key twice": ("alignment: latest\nalignment: nearest\n", "alignment stands twice in one mapping, line 2"),
    "a key twice beside a merge": ("x: &x {a: 1}\nfields: {<<: *x, b: , b: }\n", "b stands twice"),
    "many keys": ("fields: {" + ",".join(f"k{i}: " for i in range(90_000)) + "}\n", "more than 10000 values"),
    "many values": ("command: [" + "1," * 450_000 + "]\n", "more than 10000 values"),
    "a huge float": (factor("1e400"), "finite number"),
    "a huge integer": (factor("9" * 5000), "has 5000 characters"),
    "a huge hexadecimal integer": (factor("0x" + "f" * 900_000), "has 900002 characters"),
    "a huge number to the base of 60": (factor(":".join(["59"] * 300_000)), "has 899999 characters"),
    "a huge float to the base of 60": (factor(":".join(["59"] * 300_000) + ".5"), "has 900001 characters"),
    "a number that is none": (factor("!!int abc"), "invalid literal"),
    "an integer of nothing": (factor("!!int ''"), "is not YAML"),
    "bytes": ("fields: !!binary " + "A" * 900_000 + "\n", "fields: Input should be a valid dictionary"),
    "deep lists": ("[" * 400_000, "nested more than 32 deep"),
    "deep mappings": ("{a: " * 150_000, "nested more than 32 deep"),
    "deep blocks": ("".join("  " * i + "a:\n" for i in range(900)), "nested more than 32 deep"),
    "a circle": ("fields: &f {object_0_position: *f}\n", "stands for what it is part of"),
    "a circle of a list": ("command: &f [*f]\n", "stands for what it is part of"),
    "an alias of nothing": ("command: *nothing\n", "or for nothing"),
    "a character of nothing": ("alignment: latest\0\n", "is not YAML"),
    "no text": (b"alignment: \xff\xfe\n", "is not YAML"),
    "a set": ("fields: !!set {a, b}\n", "fields: Input should be a valid dictionary"),
    "an ordered mapping": ("fields: !!omap [a: 1]\n", "fields: Input should be a valid dictionary"),
    "a date that is none": ("fields: {object_0_position: {topic: 2001-13-45}}\n", "month must be in 1..12"),
    "another date that is none": ("alignment: !!timestamp nonsense\n", "is not YAML"),
    "a truth that is none": ("alignment: !!bool nonsense\n", "is not YAML"),
    "a number as a key": ("1: 2\n", "the key 1 in line 1 is no text; put it in quotes"),
    "a truth as a key": ("fields: {on: {topic: a}}\n", "the key on in line 1 is no text; put it in quotes"),
    "a list as a key": ("[1]: 3\n", "a key in line 1 is a list"),
    "not a number": (factor(".nan"), "finite number"),
    "a number that is almost none": ("fields: {object_0_position: {max_age: 1e-320}}\n", "greater than or equal"),
    "terminal codes": ('alignment: "\\e[31m\\a"\n', "Input should be 'latest' or 'nearest'"),
    "terminal codes as a key": ('"\\e[31m": 1\n', r"\?\[31m: Extra inputs"),
    "terminal codes as a key twice": ('"\\e[31m": 1\n"\\e[31m": 1\n', r"\?\[31m stands twice"),
    "two documents": ("alignment: latest\n---\nalignment: latest\n", "is not YAML"),
    "a list": ("- alignment\n", "valid dictionary"),
    "a word": ("alignment\n", "valid dictionary"),
    "nothing": ("", "is empty; restore what was in it, or leave the file out"),
    "nothing but words": ("# alignment: latest\n", "is empty"),
    "null": ("~\n", "is empty"),
    "too much": ("#" * (LARGEST_FILE + 1), f"it is larger than {LARGEST_FILE} bytes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_contract_is_one_sentence_that_says_what_is_wrong(tmp_path: Path, case: str) -> None:
    text, expected = HOSTILE[case]
    path = tmp_path / "robot.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ContractError, match=rf"robot\.yaml .*{expected}") as caught:
        read_robot_contract(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    with pytest.raises(ContractError, match=r"robot\.yaml "):  # a profile is read in the same way
        read_profile(str(path))


LIMITED = """
import resource, sys
from pathlib import Path
from qgf_ros.control.robot_contract import read_robot_contract
from qgf_ros.errors import ContractError

pages = int(Path("/proc/self/statm").read_text().split()[0])
size = pages * resource.getpagesize() + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (size, size))
for path in sorted(Path(sys.argv[1]).iterdir()):
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))  # SIGXCPU, one to two seconds from now
    try:
        read_robot_contract(path)
    except ContractError:
        print(path.stem)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is already")
def test_every_hostile_contract_takes_at_most_100_megabytes_and_a_second_of_the_processor(tmp_path: Path) -> None:
    for number, (text, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number:03d}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"{number:03d}" for number in range(len(HOSTILE))]


def test_a_pipe_in_place_of_a_contract_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContractError, match="no regular file"):
        read_robot_contract(tmp_path / "pipe")


#: YAML's own characters, and words that make it do something.
WORDS = st.sampled_from(
    [
        *("fields", "command", "alignment", "latest", "arm", "topic", "factor", "joints", "type", "joint_state"),
        *(
            "&a ",
            "*a",
            "<<",
            "!!int ",
            "!!float ",
            "!!timestamp ",
            "!!binary ",
            "!!set ",
            "!!omap ",
            "!!pairs ",
            "!!str ",
        ),
        *(
            "!!null ",
            "!!bool ",
            "!!seq ",
            "!!map ",
            "!x ",
            "? ",
            ": ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\n",
            "\n  ",
            "|\n ",
            ">\n ",
        ),
        *(
            "---\n",
            "...\n",
            "%YAML 1.1\n",
            "%TAG ! x\n",
            "'",
            '"',
            "\\",
            "# ",
            "0x_",
            "0b",
            "1:30",
            "1_0",
            ".inf",
            "-.inf",
            ".nan",
        ),
        *("1e400", "2001-01-01", "2001-13-45 1:1:1", "~", "yes", "=", "\t", "\0", "\x85", "\ufeff", "\ud7ff"),
    ]
)


def contract_or_sentence(path: Path) -> None:
    said = ""
    try:
        read_robot_contract(path)
    except ContractError as error:
        said = str(error)
    assert said.isprintable()


@given(st.lists(WORDS | st.text(max_size=4), max_size=40).map("".join))
def test_any_text_is_a_contract_or_one_sentence(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.yaml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        contract_or_sentence(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_contract_or_one_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.yaml"
        path.write_bytes(content)
        contract_or_sentence(path)


def test_what_people_write_by_hand_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(
        "fields:\n"
        "  arm: &arm {topic: /ur5e/joint_states, max_age: 0.1}\n"
        "  wrist: {<<: *arm, joints: [wrist_1, 'on'], factor: 1_000.0}\n"
        "  opening: {constant: [0.5]}\n"
    )
    read = read_robot_contract(path).fields
    assert read["wrist"].topic == read["arm"].topic == "/ur5e/joint_states"
    assert (read["wrist"].joints, read["wrist"].factor, read["opening"].constant) == (("wrist_1", "on"), 1000.0, (0.5,))


def test_an_empty_mapping_is_a_contract_that_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("{}\n")
    assert read_robot_contract(path) == RobotContract()


def test_the_parser_in_python_has_the_same_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system whose PyYAML was built without libyaml."""
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    try:
        module = importlib.reload(plain_yaml)
        for text in ("[" * 5000, merges(9, 9), laughs(9, 9, "x"), factor("9" * 5000), "a: 1\na: 2\n", "1: 2\n"):
            with pytest.raises(ValueError, match="deep|values|characters|twice|no text"):
                module.parse_yaml(text)
        assert module.parse_yaml("a: {b: [1, 2.5, x]}") == {"a": {"b": [1, 2.5, "x"]}}
    finally:
        monkeypatch.undo()
        importlib.reload(plain_yaml)
