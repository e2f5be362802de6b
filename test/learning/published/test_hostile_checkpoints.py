"""Checkpoints made to take memory or time: each is one sentence, within what its bytes would take at most.

Every case is read by a process of its own bounds: the memory it has when it begins and 100 MB, and a few seconds of the
processor for all cases together.
"""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="importing checkpoints needs the train extra")

from qgf_ros.learning.published.published_checkpoint import MOST_LAYERS, MOST_MEMBERS

SIZE = 700_000  # [bytes]


def text(value: bytes) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value


DTYPE = b"cnumpy\ndtype\n" + text(b"f4") + b"\x89\x88\x87R"
BLANK = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
#: Puts the function and the arguments of a dtype, or of an empty array, into the memory at 0 and 1.
DTYPE_CALL = b"cnumpy\ndtype\nq\x00" + text(b"f4") + b"\x89\x88\x87q\x01"
BLANK_CALL = b"cnumpy._core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85C\x01b\x87q\x01"
MANY = "more than 50000 instructions"

#: Programs, and what is said of them.
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "empty dictionaries": (b"}" * SIZE + b".", MANY),
    "marks": (b"(" * SIZE + b".", MANY),
    "memory": (b"\x80\x04}" + b"\x94" * SIZE + b".", MANY),
    "tuples of tuples, doubled": (b"\x80\x04)q\x00" + b"h\x00h\x00\x86q\x00" * (SIZE // 7) + b".", MANY),
    "a few tuples, doubled": (b"\x80\x04)q\x00" + b"h\x00h\x00\x86q\x00" * 10_000 + b".", "is no dictionary"),
    "lists of lists, doubled": (b"\x80\x04]q\x00" + b"](h\x00h\x00eq\x00" * (SIZE // 9) + b".", MANY),
    "number types": (DTYPE_CALL + b"h\x00h\x01R0" * (SIZE // 6) + b".", "instruction POP"),
    "number types in a list": (DTYPE_CALL + b"](" + b"h\x00h\x01R" * (SIZE // 5) + b"e.", MANY),
    "empty arrays": (BLANK_CALL + b"](" + b"h\x00h\x01R" * (SIZE // 5) + b"e.", MANY),
    "one array remembered everywhere": (
        BLANK + b"r" + b"r".join(i.to_bytes(4, "little") for i in range(SIZE // 5)) + b".",
        MANY,
    ),
    "deep lists": (b"]" * (SIZE // 2) + b"a" * (SIZE // 2 - 1) + b".", MANY),
    "deep dictionaries": (b"}" + (text(b"a") + b"}") * 20_000 + b"s" * 20_000 + b".", MANY),
    "bytes that are not there": (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.", "not a complete pickle"),
    "text that is not there": (b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"abc.", "not a complete pickle"),
    "a frame that is not there": (b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"}.", "has no agent"),
    "a huge number": (b"\x8b" + SIZE.to_bytes(4, "little") + b"\x7f" * SIZE + b".", "is no dictionary"),
    "a number of a negative length": (b"\x8b\xff\xff\xff\xff.", "not a complete pickle"),
    "a huge number in words": (b"I" + b"9" * SIZE + b"\n.", "not a complete pickle"),
    "a huge number as a shape": (
        BLANK + b"(K\x01\x8b" + (1000).to_bytes(4, "little") + b"\x7f" * 1000 + b"\x85" + DTYPE + b"\x89C\x04abcdtb.",
        "shape does not fit its 4 bytes",
    ),
    "many sides": (BLANK + b"(K\x01(" + b"K\x01" * 40_000 + b"t" + DTYPE + b"\x89C\x04abcdtb.", "shape does not fit"),
    "wide text": (text(("\U0001f916" + "a" * SIZE).encode()) + b".", "is no dictionary"),
    "text turned into bytes, over and over": (
        b"c_codecs\nencode\nq\x00"
        + text(b"a" * SIZE)
        + text(b"latin1")
        + b"\x86q\x01]("
        + b"h\x00h\x01R" * 12_000
        + b"e.",
        "is no dictionary",
    ),
    "keys over and over": (
        b"}(" + text(b"agent") + b"q\x00}" + b"h\x00}" * 20_000 + b"u.",
        "agent has no|agent has an",
    ),
}


def many_members(published: SimpleNamespace) -> Any:
    agent = published.agent(observation=28, chunk=5, hidden=(1,), ensemble=3_000, norm=False)
    return agent, f"is an ensemble of 3000, expected at most {MOST_MEMBERS}"


def a_hundred_thousand_members(published: SimpleNamespace) -> Any:
    agent = published.agent(observation=1, chunk=1, hidden=(1,), ensemble=2, norm=False, sinusoidal=False)
    for name in ("critic", "target_critic"):
        net = agent[name]["params"]["value_net"]
        for layer in net.values():
            for key, array in layer.items():
                layer[key] = np.zeros((100_000, *array.shape[1:]), np.float16)
    return agent, f"is an ensemble of 100000, expected at most {MOST_MEMBERS}"


def many_layers(published: SimpleNamespace) -> Any:
    agent = published.agent(observation=28, chunk=5, hidden=(1,) * 60, norm=False)
    return agent, rf"has 61 Dense, expected at most {MOST_LAYERS}"


def a_long_chunk(published: SimpleNamespace) -> Any:
    agent = published.agent(observation=28, chunk=20_000, hidden=(1, 1), norm=False, sinusoidal=False)
    return agent, "makes chunks of 20000 numbers, an action has 5 and a chunk at most 1000 actions"


AGENTS = (many_members, a_hundred_thousand_members, many_layers, a_long_chunk)

SHARED_NUMBERS = 150_000
LIMITED = """
import resource, sys
from pathlib import Path
from qgf_ros.errors import QgfError
from qgf_ros.learning.data.contract import Contract
from qgf_ros.learning.published.import_checkpoint import import_checkpoint
from qgf_sim.worlds.families import action_fields, observation_fields

contract = Contract(observation_fields("cube-single"), action_fields(), 20.0)
pages = int(Path("/proc/self/statm").read_text().split()[0])
size = pages * resource.getpagesize() + 100_000_000
resource.setrlimit(resource.RLIMIT_AS, (size, size))
for path in map(Path, sys.argv[1:]):
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 4
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    try:
        import_checkpoint(path, path.with_suffix(""), contract, critic="c", task="c")
        print("imported")
    except QgfError as error:
        print(error)
"""


def imported(*paths: Path) -> list[str]:
    """Return what is said of each file."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def shared_bytes() -> bytes:
    """A network whose layers are all views of one block of half as many bytes, each of another shape."""
    block = b"B" + (2 * SHARED_NUMBERS).to_bytes(4, "little") + bytes(2 * SHARED_NUMBERS) + b"q\x02"
    dtype = DTYPE.replace(b"f4", b"f2") + b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbq\x01"

    def view(*shape: int) -> bytes:
        sides = b"".join(b"J" + side.to_bytes(4, "little") for side in shape)
        return BLANK + b"(K\x01(" + sides + b"th\x01\x89h\x02tb"

    layers = b"".join(
        text(b"Dense_%d" % i)
        + b"}("
        + text(b"kernel")
        + view(1, 1, SHARED_NUMBERS)
        + text(b"bias")
        + view(1, SHARED_NUMBERS)
        + b"u"
        for i in range(MOST_LAYERS)
    )
    net = b"}(" + text(b"params") + b"}(" + text(b"value_net") + b"}(" + layers + b"uuu"
    agent = b"}(" + b"".join(text(name) + net for name in (b"value", b"policy", b"critic", b"target_critic")) + b"u"
    return b"\x80\x03" + block + dtype + b"}(" + text(b"agent") + agent + b"u."


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is already")
def test_hostile_checkpoints_are_one_sentence_within_their_memory_and_time(
    published: SimpleNamespace, jax_pickling: SimpleNamespace, tmp_path: Path
) -> None:
    pytest.importorskip("ogbench", reason="the contract of cube-single needs the sim extra")
    expected = []
    paths = []
    for number, (content, said) in enumerate(PROGRAMS.values()):
        paths.append(tmp_path / f"program-{number}.pkl")
        paths[-1].write_bytes(content)
        expected.append(said)
    make: Callable[[SimpleNamespace], Any]
    for make in AGENTS:
        agent, said = make(published)
        paths.append(tmp_path / f"{make.__name__}.pkl")
        paths[-1].write_bytes(jax_pickling.pickled({"agent": agent}))
        expected.append(said)
    paths.append(tmp_path / "shared.pkl")
    paths[-1].write_bytes(shared_bytes())
    expected.append("shares its bytes with other arrays")
    found = imported(*paths)
    assert len(found) == len(paths), f"{paths[len(found)]} took more than it may"
    for path, sentence, said in zip(paths, found, expected):
        assert re.search(said, sentence), (path, sentence, said)
    assert sorted(tmp_path.iterdir()) == sorted(paths), "nothing was written"


def test_networks_that_are_the_same_arrays_are_read(published: SimpleNamespace) -> None:
    """As in a checkpoint of the first update, whose target critic is its critic."""
    from qgf_ros.learning.published.published_checkpoint import load_published

    agent = published.agent()
    agent["target_critic"] = agent["critic"]
    path = published.write(agent)
    path.write_bytes(pickle.dumps({"agent": agent}))  # as NumPy arrays, each of which is there once
    networks = load_published(path)
    assert len(networks.target_critic) == 2


def test_a_long_chunk_is_compared_by_some_of_its_components(published: SimpleNamespace, tmp_path: Path) -> None:
    from qgf_ros.learning.published.import_checkpoint import primitives
    from qgf_ros.learning.published.published_checkpoint import load_published

    networks = load_published(published.write(published.agent(observation=3, chunk=300, hidden=(8, 8))))
    _, parity = primitives(networks, "task", "min")
    assert 0.0 < max(parity.values()) < 1e-4
