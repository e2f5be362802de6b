"""A pickle makes arrays and containers; whatever else it asks for is refused by name, and does not happen."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from qgf_ros.errors import TrainingError
from qgf_ros.learning.published.pickles import MOST_INSTRUCTIONS, read_pickle


def reading(folder: Path, content: bytes) -> Any:
    path = folder / "params.pkl"
    path.write_bytes(content)
    return read_pickle(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_arrays_of_numpy_and_jax_are_read_in_plain_containers(
    tmp_path: Path, jax_pickling: SimpleNamespace, protocol: int, kind: str
) -> None:
    kernel = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {
        "kernel": kernel,
        "the same again": kernel,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big-endian": np.array([1, 256], ">i4"),
        "bool": np.array([True, False]),
        "count": np.array(7, np.int32),
    }
    wrapped = {key: jax_pickling.JaxArray(array) if kind == "jax" else array for key, array in arrays.items()}
    rest = [1, -2, 2**40, 0.5, "text", b"bytes", True, None, (), (1,), (1, 2, 3, 4), {}, []]
    read = reading(tmp_path, jax_pickling.pickled({"arrays": wrapped, "rest": rest}, protocol))
    assert read["rest"] == rest
    assert read["arrays"].keys() == arrays.keys()
    for key, array in arrays.items():
        assert read["arrays"][key].dtype == array.dtype
        np.testing.assert_array_equal(read["arrays"][key], array)


@pytest.mark.parametrize("core", [b"core", b"_core"])
def test_both_spellings_of_numpy_are_read(tmp_path: Path, core: bytes) -> None:
    content = pickle.dumps([np.arange(3.0), np.float32(0.25)], 2)
    array, scalar = reading(tmp_path, re.sub(rb"numpy\._?core\.", b"numpy." + core + b".", content))
    np.testing.assert_array_equal(array, np.arange(3.0))
    assert (scalar.dtype, scalar) == (np.float32, 0.25)


def test_an_array_is_a_read_only_view_of_the_file(tmp_path: Path, jax_pickling: SimpleNamespace) -> None:
    read = reading(tmp_path, jax_pickling.pickled(jax_pickling.JaxArray(np.ones(9))))
    assert isinstance(read.base, bytes)
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 0.0


class Evil:
    """An object as one would write it to have code run by `pickle.load`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Stateful:
    """An object with attributes, which a pickle sets without asking."""

    def __init__(self) -> None:
        self.x = 1


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def by_stack(module: str, name: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93."


DTYPE = b"cnumpy\ndtype\n" + text("f4") + b"\x89\x88\x87R"
BLANK = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"

HOSTILE = {
    # Names, in each way a pickle can spell one.
    "a shell": (pickle.dumps(Evil(os.system, "touch owned")), r"asks for (posix|nt)\.system"),
    "beside an array": (pickle.dumps({"agent": [np.ones(2), Evil(eval, "1+1")]}), r"asks for builtins\.eval"),
    "inside an array": (b"cjax._src.array\n_reconstruct_array\n(cos\nsystem\n", r"asks for os\.system"),
    "protocol 0": (b"cos\nsystem\n(S'touch owned'\ntR.", r"asks for os\.system"),
    "protocol 2": (pickle.dumps(Evil(exec, "open('owned', 'w')"), 2), r"asks for __builtin__\.exec"),
    "getattr": (by_stack("builtins", "getattr"), r"asks for builtins\.getattr"),
    "import": (by_stack("builtins", "__import__"), r"asks for builtins\.__import__"),
    "numpy off the list": (by_stack("numpy", "load"), r"asks for numpy\.load"),
    "numpy runs text": (b"cnumpy.testing._private.utils\nrunstring\n.", r"asks for numpy\.testing\S*\.runstring"),
    "dotted name": (by_stack("numpy", "ndarray.tofile"), r"asks for numpy\.ndarray\.tofile"),
    "dotted path to a module": (by_stack("numpy", "os.system"), r"asks for numpy\.os\.system"),
    "no text as name": (b"\x80\x04K\x01K\x02\x93.", "a name is no text"),
    "standard class": (pickle.dumps(Path("/etc/passwd")), r"asks for pathlib"),
    "own class": (pickle.dumps(Stateful()), r"asks for .*Stateful"),
    "bfloat16": (b"cml_dtypes\nbfloat16\n.", r"asks for ml_dtypes\.bfloat16"),
    "terminal codes": (b"cos\n\x1b[2Jsystem\n.", r"asks for os\.\\x1b\[2Jsystem"),
    # Instructions that no array needs.
    "INST": (b"(ios\nsystem\n.", r"instruction INST \(os system\)"),
    "OBJ": (b"(cnumpy\nndarray\no.", "instruction OBJ"),
    "NEWOBJ": (b"cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
    "NEWOBJ_EX": (b"cnumpy\nndarray\n)}\x92.", "instruction NEWOBJ_EX"),
    "EXT1": (b"\x80\x02\x82\x2a.", r"instruction EXT1 \(42\)"),
    "EXT4": (b"\x80\x02\x84\x2a\x00\x00\x00.", r"instruction EXT4 \(42\)"),
    "PERSID": (b"Pfile:owned\n.", r"instruction PERSID \(file:owned\)"),
    "BINPERSID": (b"NQ.", "instruction BINPERSID"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    # Known names, used for something else.
    "call of the array type": (b"cnumpy\nndarray\nK\x05\x85R.", "makes no array"),
    "array of another type": (BLANK.replace(b"ndarray", b"dtype") + b".", "makes no array"),
    "jax array by another function": (
        b"cjax._src.array\n_reconstruct_array\n(cnumpy\ndtype\n)(K\x01)NNNt}tR.",
        "makes no array",
    ),
    "another codec": (b"c_codecs\nencode\n" + text("n") + text("rot13") + b"\x86R.", "makes no array"),
    "call of text": (text("a") + b")R.", "makes no array"),
    "attributes of a function": (b"c_codecs\nencode\n}b.", "sets the state"),
    "attributes of a container": (b"}}b.", "sets the state"),
    "dtype that hides fields": (DTYPE + b"(K\x03" + text("<") + b"N)}K\x04K\x01K\x10tb.", "sets the state"),
    # Arrays of anything but numbers.
    "objects": (pickle.dumps(np.array([1, "a"], dtype=object)), "array of type O8"),
    "records": (pickle.dumps(np.zeros(2, dtype=[("a", "f4")])), "array of type V4"),
    "strings": (pickle.dumps(np.array(["a"])), "array of type U1"),
    "content in a list": (BLANK + b"(K\x01K\x02\x85" + DTYPE + b"\x89]tb.", "not made of real numbers"),
    "numbers as keys": (pickle.dumps({2**61 - 1: 0}), "keys are not text"),
    # Sizes.
    "huge shape": (BLANK + b"(K\x01\x8a\x06\xff\xff\xff\xff\xff\x7f\x85" + DTYPE + b"\x89C\x04abcdtb.", "its 4 bytes"),
    "negative shape": (
        BLANK + b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + DTYPE + b"\x89C\x04abcdtb.",
        "4 bytes",
    ),
    "no bytes, huge sides": (
        BLANK + b"(K\x01K\x00\x8a\x08" + b"\x7f" * 8 + b"\x86" + DTYPE + b"\x89C\x00tb.",
        "0 bytes",
    ),
    "text longer than the file": (b"\x80\x04\x8d" + b"\x7f" * 8 + b"a.", "not a complete pickle"),
    "bytes longer than the file": (b"\x80\x05\x96" + b"\x7f" * 8 + b"a.", "not a complete pickle"),
    # No pickle.
    "nothing": (b"", "not a complete pickle"),
    "an archive": (b"PK\x03\x04params", "not a complete pickle"),
    "text": (b"# Q-Guided Flow\n", "not a complete pickle"),
    "nothing on the stack": (b"\x80\x04.", "not a complete pickle"),
    "an unknown memory": (b"h\x05.", "not a complete pickle"),
    "no mark": (b"t.", "not a complete pickle"),
    "odd dictionary": (b"}(" + text("a") + b"u.", "not a complete pickle"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_payload_asks_for_is_named_and_does_not_happen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, expected = HOSTILE[name]
    folder = tmp_path / "working directory"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(TrainingError, match=f"params.pkl .*{expected}") as error:
        reading(tmp_path, content)
    assert not list(folder.iterdir())
    assert str(error.value).isascii()
    assert str(error.value).isprintable()


def test_a_payload_of_the_suite_does_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["a shell"][0])
    assert (tmp_path / "owned").exists()


def test_a_small_file_stays_small_in_memory(tmp_path: Path, jax_pickling: SimpleNamespace) -> None:
    """A memory slot of number 2^31 and one block of bytes seen as many arrays; C pickle makes gigabytes of either."""
    raw = b"C\xf0" + bytes(240)
    view = b"(K\x01K\x3c\x85h\x01\x89h\x02t"
    arrays = b"".join(BLANK + view + b"b" for _ in range(2000))
    dtype = DTYPE + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"\x80\x04" + raw + b"q\x02" + dtype + b"q\x01" + b"r\xff\xff\xff\x7f" + b"](" + arrays + b"e."
    tracemalloc.start()
    read = reading(tmp_path, content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read) == 2000
    assert peak < 20 * len(content)


def test_nesting_is_bounded_by_the_file_alone(tmp_path: Path) -> None:
    depth = MOST_INSTRUCTIONS // 2
    read = reading(tmp_path, b"]" * depth + b"a" * (depth - 1) + b".")
    for _ in range(depth - 1):
        (read,) = read
    assert read == []


def test_every_truncated_file_is_refused(tmp_path: Path, jax_pickling: SimpleNamespace) -> None:
    content = jax_pickling.pickled({"agent": {"kernel": jax_pickling.JaxArray(np.ones(3))}})
    for length in range(len(content)):
        with pytest.raises(TrainingError, match="not a complete pickle"):
            reading(tmp_path, content[:length])


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_byte_gives_some_value_or_an_error_of_ours(
    tmp_path: Path, jax_pickling: SimpleNamespace, position: int, byte: int
) -> None:
    content = bytearray(jax_pickling.pickled({"agent": [jax_pickling.JaxArray(np.ones(3)), {"a": (1, 2)}]}))
    content[position % len(content)] = byte
    with contextlib.suppress(TrainingError):
        reading(tmp_path, bytes(content))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none.pkl cannot be read"):
        read_pickle(tmp_path / "none.pkl")
