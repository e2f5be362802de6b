"""torch.compile without its compiler is a sentence, before anything runs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="compiling needs the train extra")

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.compilation import compiled  # noqa: E402


def test_a_missing_compiler_is_told_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TrainingError, match=r"C\+\+ compiler no-such-compiler was not found; install one"):
        compiled(torch.sin)
