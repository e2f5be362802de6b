"""Guards over observations do nothing to the simulation: neither the shipped bundles' bounds nor their signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ogbench", reason="environments need the sim extra")

from qgf_ros.bundle.expectation import PLAUSIBLE_RANGE, expected_fields
from qgf_ros.bundle.store import load_manifest
from qgf_ros.control.observation import ObservationAssembler
from qgf_sim.worlds.shift import NONE, Shift
from qgf_sim.worlds.shifted_environment import ShiftedEnvironment

MODELS = Path(__file__).resolve().parents[3] / "models"
STEP = 50_000_000
#: No shift, and the largest of each that docs/simulation.md allows, except drop-outs: they leave no observation.
SHIFTS = (NONE, Shift(1.0), Shift(0.02, 100, 0.0, 100, 0.05, 0.05, 0.5, 0.5), Shift(0.0, 0, 0.0, 0, 20.0, 20.0, 2.0))


@pytest.mark.parametrize("name", ["cube-single", pytest.param("scene", marks=pytest.mark.slow)])
def test_no_shift_of_the_simulation_is_implausible_to_a_shipped_bundle(name: str) -> None:
    manifest = load_manifest(MODELS / name)
    fields = manifest.observation
    expected = expected_fields(manifest, fields, PLAUSIBLE_RANGE)
    plain = [field.model_copy(update={"mean_quaternion": None, "sign_follows": False}) for field in fields]
    random = np.random.default_rng(0)
    for task, shift in enumerate(SHIFTS, 1):
        env = ShiftedEnvironment(str(manifest.environment), task)
        env.shift = shift
        guarded, bare = ObservationAssembler(fields, 0.05, expected=expected), ObservationAssembler(plain, 0.05)
        readings = env.reset(task)
        for step in range(60):
            for assembler in (guarded, bare):
                for topic, reading in readings.items():
                    assembler.update(topic, step * STEP, reading)
            vector = guarded.assemble(step * STEP).vector
            if not shift.observation_noise:  # which turns a cube anywhere
                assert vector.tobytes() == bare.assemble(step * STEP).vector.tobytes()
            readings = env.step(random.uniform(-1.0, 1.0, 5) * [0.05, 0.05, 0.05, 0.3, 1.0]).readings
        env.close()
