"""What a process takes of the machine: processor time, and memory."""

from __future__ import annotations

import os
from pathlib import Path


def processor_time(pid: int) -> float:
    """Return the processor time that the threads of a process have used so far [s]."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return 1e-9 * sum(int(thread.read_text().split()[0]) for thread in threads)


def resident_memory(pid: int) -> float:
    """Return the memory of a process that is in RAM [bytes]."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
