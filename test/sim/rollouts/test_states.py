"""Observations met in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="simulated states need the sim extra")

from qgf_ros.errors import SimulationError
from qgf_sim.rollouts.states import collect_states


@pytest.mark.usefixtures("short")
def test_states_are_those_of_seeded_episodes(tiny_bundle: Path) -> None:
    states, seen = collect_states(tiny_bundle, 1, 15, episodes=1, seed=4)
    assert seen == {}
    assert (states.shape, states.dtype) == ((15, 28), np.float32)
    assert np.isfinite(states).all()
    assert len(np.unique(states, axis=0)) == 15
    np.testing.assert_array_equal(states, collect_states(tiny_bundle, 1, 15, episodes=1, seed=4)[0])
    with pytest.raises(SimulationError, match="1 episodes met 20; ask for fewer --states or more --episodes"):
        collect_states(tiny_bundle, 1, 21, episodes=1)  # 40 steps, two of them executed per chunk
