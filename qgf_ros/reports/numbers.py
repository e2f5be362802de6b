"""The numbers of an analysis, as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qgf_ros.files.destination import write_text
from qgf_ros.guidance.protocols import Array
from qgf_ros.reports.statistics import Z95


def plain(value: Any, digits: int = 6) -> Any:
    """Return mappings, sequences and NumPy values as JSON's own types, floats rounded to significant digits.

    Values that are not finite become null.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), digits)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def mean_and_error(rows: Array) -> dict[str, float]:
    """Return the mean of independent rows [N] and the half width of its 95 % interval (normal approximation).

    Nan where there are too few rows for either.
    """
    values = np.asarray(rows, dtype=np.float64)
    error = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": float(values.mean()) if len(values) else math.nan, "error": error}


def readable(text: str) -> str:
    """Return indented JSON with every list of plain values on one line."""
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{' '.join(match.group(1).split())}]", text)


def write_json(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers as JSON, in one move, every innermost list on one line.

    Raises:
        OutputError: The file cannot be written.
    """
    write_text(path, readable(json.dumps(plain(numbers), indent=2, allow_nan=False)) + "\n")
