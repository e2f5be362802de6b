"""Standard output as it is met: in any encoding, closed, full, or read by somebody who has had enough."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

#: What stands for characters that an encoding lacks; for all others their number does, so that none is lost silently.
_PLAIN = {
    "…": "...",
    "•": "*",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "×": "x",
    "µ": "u",
    "°": "deg",
    "²": "^2",
    "³": "^3",
}
_HANDLER = "qgf_plain"


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    spinner = range(0x2800, 0x2900)  # of a progress display, in Braille
    return "".join(
        _PLAIN.get(character) or ("*" if ord(character) in spinner else ascii(character)[1:-1]) for character in text
    ), error.end


codecs.register_error(_HANDLER, _plainly)


class _WatchedFile(FileIO):
    """A file that remembers why it could not be written: the streams above it forget."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def steady_streams() -> Iterator[None]:
    """Write to standard output whatever it can take, and leave in peace where it takes nothing.

    What its encoding lacks is written plainly; output that is closed is written to nobody.

    Raises:
        SystemExit: With code 1 and without a word where the reader has gone (`qgf inspect … | head -1`), with code 2 and
            one sentence where it cannot be written, because a disk is full, say.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (until the process ends)
    given = sys.stdout
    if type(given) is not TextIOWrapper:  # a program's own, such as what a test listens with
        yield
        return
    given.flush()
    file = _WatchedFile(given.fileno(), "w", closefd=False)
    encoding, lines = given.encoding, given.line_buffering
    sys.stdout = TextIOWrapper(BufferedWriter(file), encoding=encoding, errors=_HANDLER, line_buffering=lines)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError:
        if file.failure is None:  # it is of something else
            raise
        _to_nobody(file.fileno())
        if isinstance(file.failure, BrokenPipeError):
            raise SystemExit(1) from None
        print(f"qgf: standard output cannot be written ({file.failure.strerror}); write it elsewhere", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        sys.stdout = given


def _to_nobody(descriptor: int) -> None:
    """Let what is still written, when Python ends at the latest, go nowhere."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, descriptor)
    os.close(nobody)
