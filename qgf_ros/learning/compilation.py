"""torch.compile, and the compiler that it needs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from qgf_ros.errors import TrainingError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result], **options: Any) -> Callable[Arguments, Result]:
    """Return a function that torch compiles at its first call.

    Args:
        function: What to compile.
        options: Of `torch.compile`.

    Raises:
        TrainingError: There is no C++ compiler.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # the one that torch takes
    if shutil.which(compiler) is None:
        raise TrainingError(
            f"torch.compile was asked for, and its C++ compiler {compiler} was not found; install one (Debian, Ubuntu: "
            "apt install g++), name it in CXX, or do without torch.compile"
        )
    return torch.compile(function, **options)
