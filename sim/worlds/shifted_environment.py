"""A task environment with a domain shift: other physics, imperfect sensors and actuators, a camera off its place, or in
other light.

Where nothing is shifted, an episode is the same bits as that of `TaskEnvironment`.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.extraction import Reading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.environment import Step, TaskEnvironment
from qgf_sim.worlds.picture_shift import shifted_picture
from qgf_sim.worlds.shift import NONE, Channel, Shift, camera_offset, multiply

#: Arm poses that an episode can begin in: joint positions [rad].
KEYFRAMES = {"home": (-np.pi / 2, -np.pi / 2, np.pi / 2, -np.pi / 2, -np.pi / 2, 0.0)}

# Arrays of a model that a shift changes; `mj_setConst` computes those that follow from them.
_CHANGED = (
    *("geom_friction", "pair_friction", "geom_pos", "geom_size", "geom_rbound", "geom_aabb", "bvh_aabb"),
    *("body_mass", "body_inertia", "cam_pos", "cam_quat"),
)


class ShiftedEnvironment(TaskEnvironment):
    """An OGBench task with a domain shift.

    Args:
        name: Environment, such as ``cube-single``.
        task: Single-task number, 1 to 5.
        shift: The domain shift.

    Attributes:
        shift: May be replaced; takes effect at the next `reset`.

    Raises:
        SimulationError: The environment or the task does not exist.
    """

    def __init__(self, name: str, task: int, shift: Shift = NONE) -> None:
        super().__init__(name, task)
        self.shift = shift
        self._channel = Channel(NONE, 0)
        self._nominal: Any = None
        self._of_pictures, self._seed, self._steps = NONE, 0, 0

    def reset(self, seed: int, keyframe: str = "") -> dict[str, Reading | ImageReading]:
        """Start the episode of `seed` and return its first readings, which are complete.

        Args:
            seed: Of the episode and of its shift.
            keyframe: Where the arm begins, one of `KEYFRAMES`; empty for where the task puts it.

        Raises:
            SimulationError: There is no such keyframe.
        """
        if keyframe and keyframe not in KEYFRAMES:
            raise SimulationError(f"keyframe {keyframe!r} was given; it is empty or one of {', '.join(KEYFRAMES)}")
        self._channel = Channel(self.shift, seed)
        self._of_pictures, self._seed, self._steps = self.shift, seed, 0
        self._shift_model(seed)
        super().reset(seed)
        if keyframe or self.shift.size_factor != 1.0:
            self._place(keyframe)
        return self._channel.observe(self.readings())

    def step(self, command: NDArray[np.float64]) -> Step:
        """Apply one command for one control period; readings of topics that drop out are missing."""
        self._steps += 1
        step = super().step(self._channel.act(command))
        return replace(step, readings=self._channel.observe(step.readings))

    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """Return what the robot's cameras see now, through the shift, by name, uint8 [height, width, 3]."""
        return {
            name: shifted_picture(picture, self._of_pictures, self._seed, self._steps)
            for name, picture in super().frames().items()
        }

    def _shift_model(self, seed: int) -> None:
        """Make the model that of the shift, starting from the one that was compiled."""
        shift = self.shift
        if self._nominal is None:
            if not shift.alters_model:
                return  # untouched since it was compiled
            super().reset(seed)  # OGBench compiles in the first
            self._nominal = copy.copy(self.unwrapped.model)
        model = self.unwrapped.model
        for name in _CHANGED:
            getattr(model, name)[:] = getattr(self._nominal, name)
        model.geom_friction *= shift.friction_factor
        model.pair_friction *= shift.friction_factor
        objects = model.body_rootid != model.body("ur5e/base").rootid[0]
        model.body_mass[objects] *= shift.mass_factor
        model.body_inertia[objects] *= shift.mass_factor
        for body in self._free_bodies():
            self._resize(body, shift.size_factor)
        offset, turn = camera_offset(shift, seed)
        model.cam_pos += offset
        for quaternion in model.cam_quat:  # wxyz
            quaternion[[1, 2, 3, 0]] = multiply(turn, quaternion[[1, 2, 3, 0]])
        mujoco.mj_setConst(model, mujoco.MjData(model))

    def _free_bodies(self) -> list[int]:
        model = self.unwrapped.model
        return [int(model.jnt_bodyid[j]) for j in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)]

    def _resize(self, body: int, factor: float) -> None:
        model = self.unwrapped.model
        geoms = slice(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
        boxes = slice(model.body_bvhadr[body], model.body_bvhadr[body] + model.body_bvhnum[body])
        for array in (model.geom_pos, model.geom_size, model.geom_rbound, model.geom_aabb):
            array[geoms] *= factor
        model.bvh_aabb[boxes] *= factor
        model.body_inertia[body] *= factor**2

    def _place(self, keyframe: str) -> None:
        """Put the arm into its keyframe, and free objects on the table that a new size would have sunk into it."""
        env = self.unwrapped
        model, data = env.model, env.data
        if keyframe:
            data.qpos[env._arm_joint_ids] = KEYFRAMES[keyframe]
        for body in self._free_bodies():
            data.qpos[model.jnt_qposadr[model.body_jntadr[body]] + 2] *= self.shift.size_factor
        mujoco.mj_forward(model, data)
