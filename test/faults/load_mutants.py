"""Loads and runs bundles with damaged graphs whose checksums fit; a process of its own, because it may crash.

    python load_mutants.py BUNDLE FIRST LAST

Each number from FIRST to LAST is the seed of one damage. Prints the number before it is tried, and counts at the end.
"""

from __future__ import annotations

import collections
import faulthandler
import json
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from qgf_ros.bundle.store import file_record, load_manifest
from qgf_ros.errors import QgfError
from qgf_ros.runtime.policy import Policy

MEMORY = 8 * 2**30
PATIENCE = 30


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Return the content with bits flipped, a part left out or repeated, or its end missing."""
    data = bytearray(content)
    at, length = int(random.integers(len(data))), int(random.integers(1, 40))
    kind = random.integers(6)
    if kind < 3:
        # Weights are most of a file; what stands between them is found near the names of operators.
        starts = [i for i in range(len(data) - 4) if data[i : i + 4] in (b"gemm", b"mul_", b"conc", b"add_", b"mean")]
        at = min(starts[int(random.integers(len(starts)))] + int(random.integers(-20, 20)), len(data) - 1)
    if kind in (0, 1, 3):
        for i in random.integers(at, min(at + length, len(data)), int(random.integers(1, 4))):
            data[i] ^= 1 << int(random.integers(8))
    elif kind == 2:
        data[at] = int(random.integers(256))
    elif kind == 4:
        del data[at : at + length]
    else:
        data[at:at] = data[at : at + length]
    return bytes(data)


def attempt(source: Path, number: int) -> str:
    """Damage one graph of a copy of the bundle, make its record fit, load and run it; return what came of it."""
    random = np.random.default_rng(number)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(source, Path(folder) / "mutant"))
        manifest = json.loads((bundle / "manifest.json").read_text())
        name = sorted(manifest["files"])[int(random.integers(len(manifest["files"])))]
        content = damaged((bundle / name).read_bytes(), random)
        (bundle / name).write_bytes(content)
        manifest["files"][name] = file_record(content).model_dump()
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        try:
            load_manifest(bundle)
        except QgfError as error:
            return checked("refused before ONNX Runtime", error)
        try:
            policy = Policy.load(bundle)
        except QgfError as error:
            return checked("refused by ONNX Runtime", error)
        try:
            policy.warm_up()
        except QgfError as error:
            return checked("refused at the warm-up", error)
        return "runs"


def checked(outcome: str, error: QgfError) -> str:
    if "\n" in str(error) or not str(error).isprintable():
        raise AssertionError(f"not one sentence: {error!s}")
    return outcome


def main() -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bundle, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    counts: collections.Counter[str] = collections.Counter()
    for number in range(first, last + 1):
        print(number, flush=True)
        signal.alarm(PATIENCE)  # a hang ends the process
        counts[attempt(bundle, number)] += 1
    signal.alarm(0)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
