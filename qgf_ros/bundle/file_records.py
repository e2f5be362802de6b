"""What a manifest says of the other files of a bundle: how long each is, and its hash."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from qgf_ros.bundle.fields import Record

#: Most bytes of all files of a bundle together; at the paper's size, with five critics, there are 0.16e9.
MOST_BYTES = 2**30

# At most 255 characters, which every file system takes.
_PATH = re.compile(r"(?!.{256})[A-Za-z0-9_\-.]+(/[A-Za-z0-9_\-.]+)*")


class FileRecord(Record):
    """Size in bytes and SHA-256 of one file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


def _inside(files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    for path in files:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError(
                f"file {path!r} points outside the bundle or is not of letters, digits, '-', '_', '.' and '/'"
            )
    # Some file systems do not tell cases apart.
    if len({path.lower() for path in files}) < len(files):
        raise ValueError("two files have one name, but for the case of its letters")
    total = sum(record.size for record in files.values())
    if total > MOST_BYTES:
        raise ValueError(f"the files have {total} bytes together, at most {MOST_BYTES} are allowed")
    return files


#: Of files by POSIX path relative to the bundle, none of which leaves it.
FileRecords = Annotated[dict[str, FileRecord], Field(max_length=1000), AfterValidator(_inside)]
