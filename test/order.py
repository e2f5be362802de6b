"""In which order files of tests are begun: those that take longest first, so that at the end no worker waits for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
#: Files that take about ten seconds or more on two quiet cores, `slow` tests included, the longest first.
LONGEST = (
    "sim/live/test_demo.py",
    "sim/live/test_live_tuning.py",
    "faults/test_soak.py",
    "sim/test_cluster.py",
    "recording/test_loop.py",
    "sim/bridge/test_restart.py",
    "sim/bridge/test_bridge_node.py",
    "faults/test_arm.py",
    "faults/test_camera_faults.py",
    "faults/test_bundles.py",
    "faults/test_sensors.py",
    "faults/test_processes.py",
    "faults/test_clock_changes.py",
    "faults/test_changes.py",
    "faults/test_other_nodes.py",
    "faults/test_start.py",
    "nodes/test_policy_node.py",
    "nodes/test_dashboard.py",
    "nodes/test_enclaves.py",
    "sim/worlds/test_oracle_data.py",
    "sim/worlds/test_environment.py",
    "sim/bridge/test_bridge_conventions.py",
    "test_cli.py",
    "nodes/test_watchdogs_of_the_node.py",
    "nodes/test_commander.py",
    "faults/test_driver.py",
    "sim/worlds/test_every_family.py",
    "sim/worlds/test_visual_data.py",
    "sim/rollouts/test_goals_in_simulation.py",
    "sim/rollouts/test_seeing_policies.py",
    "sim/rollouts/test_film.py",
    "sim/dashboard/test_browser.py",
    "sim/dashboard/test_process.py",
    "nodes/test_robot_profile_stand_ins.py",
    "nodes/test_recorder.py",
    "commands/test_analyze.py",
)


def longest_first(items: Sequence[Any]) -> list[Any]:
    """Return tests in the order in which their files are begun: as above, then the files of many tests before those of few.

    Args:
        items: Tests, of which a file's follow each other, each with its `path`.
    """
    ranks = {ROOT / name: rank for rank, name in enumerate(LONGEST)}
    counts = Counter(item.path for item in items)
    return sorted(items, key=lambda item: (ranks.get(item.path, len(ranks)), -counts[item.path]))
