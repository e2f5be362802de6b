"""Content of files that somebody names, of bounded size and never waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_content(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger, grows, or is no regular file.
    """
    # Without O_NONBLOCK a named pipe would wait for somebody to write into it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > most:
            raise ValueError(f"it is larger than {most} bytes")
        content = file.read(status.st_size + 1)  # which is also how much memory is asked for
    if len(content) > status.st_size:
        raise ValueError("it grows while it is read")
    return content
