"""Reads pickled checkpoints without doing what a pickle asks for.

A pickle is a program for a small machine, and two of its instructions import and call anything. Here the standard
library's `pickletools` decodes the program, which executes nothing, and `_PickleReader` follows it with its own stack. It
knows the instructions that build numbers, text, bytes, lists, tuples and dictionaries, and compares every name with
the few in `_GLOBALS`, by which NumPy and JAX arrays are pickled (protocols 2 to 5). It imports nothing, calls nothing
and sets no attribute on behalf of the file; whatever else the file asks for is refused by name.

Arrays are read-only views of the file's bytes, and instructions are bounded in number, each of which makes an object of a few
hundred bytes at most. So a small file cannot become large in memory.
"""

from __future__ import annotations

import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.errors import TrainingError
from qgf_ros.files.content import read_content

#: What each name means here. NumPy 1 and 2 have different spellings; plain protocol 2 makes bytes with `_codecs.encode`.
_GLOBALS = {
    ("jax._src.array", "_reconstruct_array"): "jax array",
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "array type",
    ("_codecs", "encode"): "bytes",
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "blank array" for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): "scalar" for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "array" for core in ("core", "_core")},
}
_DTYPES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_MAX_DIMENSIONS = 32
#: Largest checkpoint [bytes]: twelve times the largest bundle, with its optimiser's moments.
LARGEST_FILE = 12 * 2**30
#: Most instructions of a pickle; a checkpoint of the published code has some 5,000.
MOST_INSTRUCTIONS = 50_000

#: Instructions that push their own argument.
_LITERALS = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds: numbers, text, bytes, plain containers and NumPy arrays.

    Args:
        path: The file. It may be hostile.

    Raises:
        TrainingError: It cannot be read, is no complete pickle, or asks for anything else.
    """
    try:
        content = read_content(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(f"{path} cannot be read ({reason}); give the path of a checkpoint") from error
    try:
        return _PickleReader().run(content)
    except _Refusal as refusal:
        raise TrainingError(
            f"{path} {refusal}, so nothing of it was used; give a checkpoint as the published code saves it"
        ) from refusal
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} is not a complete pickle ({shown(str(error))}); give a checkpoint as the published code saves it"
        ) from error


def shown(text: str) -> str:
    """Return text out of a file in a form that is safe to print: ASCII, one line, not long."""
    return ascii(text)[1:-1][:80]


class _Refusal(Exception):
    """The rest of a sentence that begins with the file's name."""


class _Global:
    """One of the names of `_GLOBALS`, standing for a function that is never called."""

    def __init__(self, meaning: str) -> None:
        self.meaning = meaning


class _Dtype:
    """A number type, complete once its byte order has been set."""

    def __init__(self, code: str) -> None:
        self.numpy = np.dtype(code)


class _Blank:
    """A NumPy array whose content follows, and where it has been memorised until then."""

    def __init__(self) -> None:
        self.memorised: list[int] = []


class _PickleReader:
    """The stack machine. Beside the stack proper it keeps those that a mark has set aside."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._aside: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._bytes: dict[str, bytes] = {}  # so that a text repeated takes no more memory

    def run(self, content: bytes) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if number == MOST_INSTRUCTIONS:
                raise _Refusal(f"has more than {MOST_INSTRUCTIONS} instructions, which no checkpoint of arrays needs")
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        push = self._stack.append
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                push(argument)
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "MEMOIZE" | "BINPUT" | "LONG_BINPUT":
                self._memorise(len(self._memo) if argument is None else argument)
            case "MARK":
                self._aside.append(self._stack)
                self._stack = []
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._take(int(name[-1]))))
            case "TUPLE":
                items = self._take_marked()
                self._stack.append(tuple(items))
            case "APPEND":
                self._fill(self._take(1))
            case "SETITEM":
                self._fill(self._take(2))
            case "APPENDS" | "SETITEMS":
                self._fill(self._take_marked())
            case "GLOBAL":
                push(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                push(_global(*self._take(2)))
            case "REDUCE":
                function, arguments = self._take(2)
                push(self._rebuild(function, arguments))
            case "BUILD":
                target, state = self._take(2)
                push(self._complete(target, state))
            case _:
                detail = "" if argument is None else f" ({shown(str(argument))})"
                raise _Refusal(f"uses the pickle instruction {name}{detail}, which no array needs")

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("an instruction finds too little on the stack")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _take_marked(self) -> list[Any]:
        items, self._stack = self._stack, self._aside.pop()
        return items

    def _memorise(self, index: int) -> None:
        value = self._memo[index] = self._stack[-1]
        if isinstance(value, _Blank):
            value.memorised.append(index)

    def _fill(self, items: list[Any]) -> None:
        """Put items into the list, or keys and values into the dictionary, on top of the stack."""
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, dict):
            keys = items[::2]
            if not all(isinstance(key, str) for key in keys):
                raise _Refusal("has a dictionary whose keys are not text")
            target.update(zip(keys, items[1::2], strict=True))
        else:
            raise TypeError("items for something that is no container")

    def _rebuild(self, function: Any, arguments: Any) -> Any:
        """Return what a call would have made."""
        match getattr(function, "meaning", None), arguments:
            case "jax array", (_Global(meaning="blank array"), _, (_, shape, dtype, fortran, content), _):
                return _array(shape, dtype, fortran, content)
            case "blank array", (_Global(meaning="array type"), (0,), _):
                return _Blank()
            case "array", (content, dtype, shape, ("C" | "F") as order):
                return _array(shape, dtype, order == "F", content)
            case "scalar", (dtype, content):
                return _array((), dtype, False, content)
            case "dtype", (str(code), _, _):
                if code not in _DTYPES:
                    raise _Refusal(f"holds an array of type {shown(code)}, expected real numbers")
                return _Dtype(code)
            case "bytes", (str(text), "latin1"):
                if text not in self._bytes:
                    self._bytes[text] = text.encode("latin1")
                return self._bytes[text]
        raise _Refusal("calls something in a way that makes no array of real numbers")

    def _complete(self, target: Any, state: Any) -> Any:
        """Return a dtype with its byte order, or an array with its content."""
        match target, state:
            case _Dtype(), (_, "<" | ">" | "|" | "=" as order, None, None, None, -1, -1, 0):
                target.numpy = target.numpy.newbyteorder(order)
                return target
            case _Blank(), (_, shape, dtype, fortran, content):
                array = _array(shape, dtype, fortran, content)
                self._memo.update(dict.fromkeys(target.memorised, array))
                target.memorised.clear()  # or a file could have them rewritten over and over
                return array
        raise _Refusal("sets the state of something that is no array of real numbers")


def _global(module: Any, attribute: Any) -> _Global:
    if not (isinstance(module, str) and isinstance(attribute, str)):
        raise TypeError("a name is no text")
    meaning = _GLOBALS.get((module, attribute))
    if meaning is None:
        raise _Refusal(f"asks for {shown(module)}.{shown(attribute)}, which no array needs")
    return _Global(meaning)


def _array(shape: Any, dtype: Any, fortran: Any, content: Any) -> NDArray[Any]:
    """Return a view of an array's bytes."""
    if not (isinstance(dtype, _Dtype) and isinstance(content, bytes | bytearray)):
        raise _Refusal("holds an array that is not made of real numbers")
    if not (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(isinstance(size, int) and 0 <= size <= len(content) for size in shape)
        and math.prod(shape) * dtype.numpy.itemsize == len(content)
    ):
        raise _Refusal(f"holds an array whose shape does not fit its {len(content)} bytes")
    array: NDArray[Any] = np.ndarray(shape, dtype.numpy, content, order="F" if fortran else "C")
    return array
