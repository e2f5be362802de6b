"""What `recorded_runs` makes, as fixtures. It needs ROS 2 and MCAP, so it is imported only where a fixture is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from recorded_runs import LinearPolicy, Run

    from qgf_ros.bundle.manifest import Manifest
    from qgf_ros.recording.recording import Recording


@pytest.fixture
def joint_message() -> Callable[..., Any]:
    from recorded_runs import joints

    return joints


@pytest.fixture
def as_received() -> Callable[[str, Any, int], Any]:
    from recorded_runs import received

    return received


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording of messages and metadata."""
    from recorded_runs import write_recording

    return lambda *messages, name="run.mcap", **metadata: write_recording(tmp_path / name, *messages, **metadata)


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    from recorded_runs import make_manifest

    return make_manifest


@pytest.fixture
def run_of() -> Callable[..., Run]:
    """Begin a run, of a manifest with these changes."""
    from recorded_runs import Run, make_manifest

    return lambda changes=None, **settings: Run(make_manifest(**(changes or {})), **settings)


@pytest.fixture
def policy_of() -> Callable[..., LinearPolicy]:
    from recorded_runs import LinearPolicy, make_manifest

    return lambda **changes: LinearPolicy(make_manifest(**changes))


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Recording]:
    """Write what a run said into a file and open it."""
    from recorded_runs import record_run

    def make(run: Run, *messages: Any, **metadata: dict[str, str]) -> Recording:
        return record_run(tmp_path / f"run{len(list(tmp_path.glob('*.mcap')))}.mcap", run, *messages, **metadata)

    return make
