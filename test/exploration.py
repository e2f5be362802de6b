"""How many examples a property is tried with: the same few in `make test`, many others each time in `make test-all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

#: How many times as many examples `make test-all` draws.
MORE = 10
#: What failed once is kept here and tried first the next time.
DATABASE = Path(__file__).resolve().parents[1] / ".hypothesis" / "examples"


def register_profiles() -> None:
    """Register ``project``, whose runs repeat each other, and ``explore``, which looks further every time.

    No property depends on the speed of the machine. What `explore` finds is printed with the line that repeats it, and is
    the first that the next run tries.
    """
    common: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("project", derandomize=True, database=None, **common)
    settings.register_profile(
        "explore",
        derandomize=False,
        max_examples=MORE * settings.get_profile("project").max_examples,
        database=DirectoryBasedExampleDatabase(DATABASE),
        print_blob=True,
        **common,
    )


def examples(count: int, **options: Any) -> settings:
    """Return the settings of a property that takes `count` examples in `make test`, with other options of Hypothesis."""
    return settings(max_examples=count if settings.default.derandomize else MORE * count, **options)
