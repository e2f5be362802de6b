"""Hostile and damaged archives: one sentence each, and never much memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploration import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from qgf_ros.errors import DatasetError
from qgf_ros.learning.data.dataset import load_dataset

ROWS = 40
ARRAYS: dict[str, Any] = {
    "observations": np.zeros((ROWS, 3), np.float32),
    "actions": np.zeros((ROWS, 2), np.float32),
    "terminals": np.arange(ROWS) == ROWS - 1,
}


def npy(array: Any) -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array(written, np.asarray(array))
    return written.getvalue()


def header(shape: object, descr: object = "<f4", content: bytes = b"") -> bytes:
    """A member that says what its shape and type are, whatever follows."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def raw_header(text: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def archive(path: Path, members: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in {**{f"{key}.npy": npy(array) for key, array in ARRAYS.items()}, **(members or {})}.items():
            file.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        load_dataset(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    assert len(sentence) < 800
    return sentence


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header((10**15, 3)), "has 0 bytes, which are no float32 of shape (1000000000000000, 3)"),
        (header((2**63, 2**63)), "has 0 bytes"),
        (header((-1, 3), content=bytes(12)), "shape (-1, 3)"),
        (header((4, 3), content=bytes(47)), "has 47 bytes, which are no float32 of shape (4, 3)"),
        (header((4, 3), content=bytes(49)), "has 49 bytes"),
        (header((1, 1), "|V2000000000"), "values of type |V2000000000, expected numbers"),
        (header((4,), [("a", "<f4")], bytes(16)), "expected numbers"),
        (header((ROWS,), "|O", bytes(8 * ROWS)), "holds Python objects, expected numbers"),
        (header((0,) * 2000), "not a readable"),
        (header("everything"), "not a readable"),
        (npy(np.full((ROWS, 3), "0.1")), "values of type <U3, expected numbers"),
        (npy(np.full((ROWS, 3), b"0")), "values of type |S1, expected numbers"),
        (npy(np.zeros((ROWS, 3), complex)), "values of type complex128, expected numbers"),
        (npy(np.zeros((ROWS, 3), "M8[ns]")), "values of type datetime64[ns], expected numbers"),
        (npy(np.zeros((ROWS, 3), "m8[s]")), "values of type timedelta64[s], expected numbers"),
        (npy(np.float32(1.0)), "observations has shape ()"),
        (b"", "not a readable"),
        (b"hello", "not a readable"),
        (raw_header(b"(" * 9_000 + b"\n"), "not a readable"),
        (raw_header(b"-" * 9_000 + b"1\n"), "not a readable"),
        (raw_header(b" " * 60_000), "not a readable"),
        (raw_header(b"\xff\xfe{}", 2), "not a readable"),
        (raw_header(b"{}", 3), "header of version 3.0"),
        (raw_header(b"{}", 9), "header of version 9.0"),
    ],
)
def test_a_member_that_is_no_array_of_numbers_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in refusal(archive(tmp_path / "d.npz", {"observations.npy": content}))


def with_byte_flipped(content: bytes) -> bytes:
    at = content.index(b"\x93NUMPY") + 300
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def with_a_password(content: bytes) -> bytes:
    marked = bytearray(content)
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            marked[at + flags] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[: len(content) // 2], "not a zip file"),
        (lambda content: content[:-1], "not a zip file"),
        (with_byte_flipped, "Bad CRC-32 for file 'observations.npy'"),
        (with_a_password, "is encrypted"),
        (lambda content: b"", "not a zip file"),
        (lambda content: b"hello", "not a zip file"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path = archive(tmp_path / "d.npz", compression=zipfile.ZIP_STORED)
    path.write_bytes(damage(path.read_bytes()))
    assert says in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(tmp_path: Path, method: int) -> None:
    assert f"compressed by method {method}" in refusal(archive(tmp_path / "d.npz", compression=method))


@pytest.mark.parametrize("name", ["observations.npy", "observations"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "d.npz")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, npy(np.ones((ROWS, 3))))
    assert "observations is in it 2 times, expected once" in refusal(path)


def test_names_that_are_paths_or_hold_control_characters_are_only_names(tmp_path: Path) -> None:
    strange = {"../../observations.npy": b"", "/tmp/actions.npy": b"", "\x1b[31m\nx": b""}
    assert load_dataset(archive(tmp_path / "d.npz", strange)).observations.shape == (ROWS, 3)
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as file:
        for name, content in strange.items():
            file.writestr(name, content)
    assert "lacks observations, actions, terminals; it has" in refusal(tmp_path / "e.npz")


def growth(path: Path) -> int:
    """Bytes of memory at most in use while a file is refused."""
    tracemalloc.start()
    refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """80 MB of zeros in 80 kB; and 20 MB that would be four times as much in float32."""
    for name, descr, size in (("f.npz", "<f4", 4), ("u.npz", "|u1", 1)):
        rows = 20_000_000
        path = archive(tmp_path / name, {"observations.npy": header((rows, 1), descr, bytes(rows * size))})
        assert "would be unpacked to 80000" in refusal(path)
        assert growth(path) < 5e6


def test_a_header_and_a_directory_without_end_are_refused_before_they_are_read(tmp_path: Path) -> None:
    endless = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 20_000_000
    path = archive(tmp_path / "d.npz", {"observations.npy": endless})
    assert growth(path) < 5e6
    many = archive(tmp_path / "e.npz", {f"{i:0500}": b"" for i in range(2_500)})
    assert "its directory has" in refusal(many)
    assert growth(many) < 5e6


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("[[", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ('[["a", 1]]', "no JSON of [[name, scale, offset], ...]"),
        ('[["a", null, 1]]', "no JSON of"),
        ("7", "no JSON of"),
        (np.zeros(3), "holds values of type float64, expected a text"),
        (np.array(["[]"] * 3), "expected one text"),
        ("[" + " " * (1 << 18) + "]", "expected one text of at most"),
    ],
)
def test_a_normalisation_that_is_none_is_refused(tmp_path: Path, told: Any, says: str) -> None:
    np.savez(tmp_path / "d.npz", **ARRAYS, action_normalisation=np.array(told))
    assert says in refusal(tmp_path / "d.npz")


@given(st.lists(st.tuples(st.integers(0, 1500), st.binary(max_size=4)), max_size=4), st.integers(0, 1500))
@examples(150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Reading .*:UserWarning")
def test_any_damage_is_one_sentence_or_none_that_matters(
    tmp_path: Path, writes: list[tuple[int, bytes]], cut: int
) -> None:
    path = archive(tmp_path / "d.npz")
    content = bytearray(path.read_bytes())
    for at, new in writes:
        content[at : at + len(new)] = new
    path.write_bytes(content[: max(cut, 700)] if cut % 2 else content)
    try:
        assert load_dataset(path).terminals.shape == (ROWS,)
    except DatasetError as error:
        said = str(error)
        assert "\n" not in said
