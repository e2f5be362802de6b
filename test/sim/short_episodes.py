"""Episodes that end after 40 control steps instead of 200 or more, in this process and over the bridges of the demo.

Over 40 steps a wrong bit shows as over 200: every command depends on the ones before it. As a program, this is the bridge.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qgf_sim.worlds import environment

STEPS = 40


def shortened(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes environments that end their episodes early, unless a length is asked for."""

    def short(gymnasium_id: str, **options: Any) -> Any:
        return make(gymnasium_id, **{"max_episode_steps": STEPS, **options})

    short.steps = STEPS  # type: ignore[attr-defined]
    return short


@contextmanager
def short_episodes() -> Iterator[None]:
    """Shorten the episodes of environments that this process makes, and the bridges that `demo` starts."""
    import pytest

    from qgf_sim.live import demo

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_make", shortened(environment._make))
        patch.setitem(demo.MODULES, demo.BRIDGE, Path(__file__).stem)
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


if __name__ == "__main__":
    from qgf_sim.bridge import node

    environment._make = shortened(environment._make)
    sys.exit(node.main())
