"""OGBench manipulation environments, made reproducible and given a robot's interface.

OGBench draws from three random sources: the environment's own generator, NumPy's global one (its oracles) and a new,
unseeded action space at every access (two random actions inside every reset). Here one seed fixes all three, so that
an episode is the same whatever ran before it in the same process.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium
import mujoco
import numpy as np
import ogbench  # noqa: F401  (registers the environments)
from dm_control import mjcf
from numpy.typing import NDArray

from qgf_ros.control.extraction import JointReading, PoseReading, Reading, WrenchReading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError
from qgf_sim.worlds.families import (
    ARM_JOINTS,
    CAMERA,
    CAMERA_TOPIC,
    GRIPPER_JOINT,
    ROBOT_SIZE,
    VISUAL,
    action_fields,
    family_of,
)
from qgf_sim.worlds.headless import load_gl
from qgf_sim.worlds.rendering import observe_states

#: Control period of every OGBench manipulation task [s].
CONTROL_PERIOD = 0.05
#: Steps of a data collection episode; the last one has no successor, so 1001 give 1000 transitions.
COLLECTION_STEPS = 1001


@dataclass(frozen=True)
class Step:
    """What one control step led to.

    Attributes:
        readings: One reading per topic.
        success: Whether the task is solved.
        done: Whether the episode is over, by success or by the step limit.
    """

    readings: dict[str, Reading | ImageReading]
    success: bool
    done: bool


_Environment = TypeVar("_Environment", bound="TaskEnvironment")


class TaskEnvironment:
    """One OGBench single-task environment behind a robot's interface: readings out, commands in.

    Args:
        name: Environment, such as ``cube-single``.
        task: Single-task number, 1 to 5.

    Attributes:
        task: May be replaced; takes effect at the next `reset`.
        goal: OGBench's goal of the episode under way, an observation vector, float64 [S]; empty before the first `reset`.

    Raises:
        SimulationError: The environment or the task does not exist.
    """

    def __init__(self, name: str, task: int) -> None:
        self.family = family_of(name)
        self.name = name
        self._check_task(task)
        self._env, self._space = _make(f"{name}-singletask-task{task}-v0")
        self._scale = np.array([field.scale for field in action_fields()])
        self.goal = np.zeros(0)
        self.max_steps = int(self._env.spec.max_episode_steps)

    def _check_task(self, task: int) -> None:
        if task not in range(1, 6):
            raise SimulationError(f"task {task} was given; {self.name} has tasks 1 to 5")

    @property
    def task(self) -> int:
        """Single-task number, which is all in which OGBench's environments of one family differ."""
        return int(self.unwrapped._reward_task_id)

    @task.setter
    def task(self, task: int) -> None:
        self._check_task(task)
        self.unwrapped._reward_task_id = task

    @property
    def unwrapped(self) -> Any:
        """The OGBench environment itself."""
        return self._env.unwrapped

    @property
    def gymnasium_env(self) -> gymnasium.Env[Any, Any]:
        """The environment as gymnasium made it, for OGBench's own tools."""
        return self._env

    @property
    def action_scale(self) -> NDArray[np.float64]:
        """How much of each command component is 1 in OGBench's action, float64 [5]."""
        return self._scale

    def reset(self, seed: int) -> dict[str, Reading | ImageReading]:
        """Start the episode of `seed` and return its first readings."""
        self._space.seed(seed)
        _, info = self._env.reset(seed=seed)
        self.goal = np.array(info["goal"], dtype=np.float64)
        return self.readings()

    def step(self, command: NDArray[np.float64]) -> Step:
        """Apply one command for one control period.

        Args:
            command: float64 [5] in the units of `action_fields`; what leaves their limits is clipped, which OGBench
                itself does not do.
        """
        action = np.clip(np.asarray(command, dtype=np.float64) / self._scale, -1.0, 1.0)
        _, _, terminated, truncated, info = self._env.step(action)
        return Step(self.readings(), bool(info["success"]), bool(terminated or truncated))

    def readings(self) -> dict[str, Reading | ImageReading]:
        """Return what the robot's sensors report now, by topic; SimulationError where a picture cannot be drawn."""
        env = self.unwrapped
        data = env.data
        joints = np.append(env._arm_joint_ids, env._gripper_opening_joint_id)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[env._pinch_site_id])
        contact = data.body("ur5e/robotiq/right_pad").cfrc_ext
        readings: dict[str, Reading | ImageReading] = {
            "joint_states": JointReading(
                (*ARM_JOINTS, GRIPPER_JOINT), data.qpos[joints].copy(), data.qvel[joints].copy(), np.empty(0)
            ),
            "effector_pose": PoseReading(data.site_xpos[env._pinch_site_id].copy(), quaternion[[1, 2, 3, 0]]),
            "gripper_wrench": WrenchReading(contact[3:].copy(), contact[:3].copy()),
        }
        if self.family.visual:  # where the objects are is to be seen
            return {**readings, CAMERA_TOPIC: ImageReading.of(self.frames()[CAMERA])}
        for i in range(self.family.cubes):
            qpos = data.joint(f"object_joint_{i}").qpos
            readings[f"object_{i}_pose"] = PoseReading(qpos[:3].copy(), qpos[[4, 5, 6, 3]].copy())
        if self.family.object_joints:
            objects = [data.joint(joint) for joint in self.family.object_joints]
            position, velocity = (np.array([getattr(joint, key)[0] for joint in objects]) for key in ("qpos", "qvel"))
            readings["object_joint_states"] = JointReading(self.family.object_joints, position, velocity, np.empty(0))
        if self.family.buttons:
            states = env._cur_button_states.astype(np.float64)
            readings["button_states"] = JointReading(self.family.button_names, states, np.empty(0), np.empty(0))
        return readings

    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """Return what the robot's cameras see now, by name, uint8 [height, width, 3]; nothing where it has none.

        Raises:
            SimulationError: No GL back end can be loaded.
        """
        return {CAMERA: self.unwrapped.picture()} if self.family.visual else {}

    def observation(self) -> NDArray[np.float64]:
        """Return OGBench's own observation vector, the reference for `observation_fields`, float64 [S]."""
        vector: NDArray[np.float64] = self.unwrapped.compute_observation()
        return vector[:ROBOT_SIZE] if self.family.visual else vector

    def set_state(self, qpos: NDArray[Any], qvel: NDArray[Any], button_states: NDArray[Any] | None = None) -> None:
        """Put the simulation into a recorded state; `reset` must have been called once.

        Positions, velocities and poses follow. Contact forces do not: they depend on the motor commands of the moment,
        which data sets do not hold.

        Args:
            qpos, qvel: MuJoCo's generalised positions and velocities, as in a data set.
            button_states: The state of each button, 0 or 1; only for a family with buttons.

        Raises:
            SimulationError: They have another size than this environment's.
        """
        model = self.unwrapped.model
        buttons = np.zeros(0) if button_states is None else np.asarray(button_states)
        given = (qpos.shape, qvel.shape, buttons.shape)
        expected = ((model.nq,), (model.nv,), (self.family.buttons,))
        if given != expected:
            raise SimulationError(
                f"a state with {given[0]} positions, {given[1]} velocities and {given[2]} button states was given; "
                f"{self.name} has {expected[0]}, {expected[1]} and {expected[2]}, use a data set of this environment"
            )
        state = (qpos, qvel, buttons.astype(np.int64)) if self.family.buttons else (qpos, qvel)
        self.unwrapped.set_state(*state)

    def render(self, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
        """Return a picture of the scene, uint8 [height, width, 3].

        Raises:
            SimulationError: No GL back end can be loaded.
        """
        load_gl()
        env = self.unwrapped
        if (env._render_width, env._render_height) != (width, height) and env._renderer is not None:
            env._renderer.close()
            env._renderer = None
        env._render_width, env._render_height = width, height
        model = env.model
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        picture: NDArray[np.uint8] = env.render()
        return picture

    def copy(self: _Environment) -> _Environment:
        """Return another environment in the same state, which costs a tenth of making one.

        It has its own copy of the compiled model (63 MB), because OGBench writes into that: colours, and in some families
        joints. It shares what has no state, so the two may take turns but not run in two threads.
        """
        inner = self.unwrapped
        if inner._model is None:
            self.reset(0)  # compiles
        described = [value for value in vars(inner).values() if _describes(value)]  # which nothing writes into
        shared = {id(value): value for value in (*described, inner._ik)}  # of each solution, nothing is left in _ik
        # A deep copy of MjData would be one of its model, too, which nothing asks it for.
        return copy.deepcopy(self, {**shared, id(inner._data): copy.copy(inner._data)})

    def close(self) -> None:
        """Free the environment."""
        self._env.close()


def collection_environment(name: str, steps: int = COLLECTION_STEPS) -> gymnasium.Env[Any, Any]:
    """Return OGBench's data collection environment with a fixed action space.

    Args:
        name: Environment, such as ``cube-single``.
        steps: Length of an episode [control steps].

    Raises:
        SimulationError: The environment is unknown.
    """
    family_of(name)
    env, _ = _make(f"{name}-v0", terminate_at_goal=False, mode="data_collection", max_episode_steps=steps)
    return env


def seed_everything(env: gymnasium.Env[Any, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """Seed an environment and the global generator of OGBench's oracles, and reset."""
    np.random.seed(seed % 2**32)
    env.unwrapped.action_space.seed(seed)
    first: tuple[Any, dict[str, Any]] = env.reset(seed=seed)
    return first


def _make(gymnasium_id: str, **options: Any) -> tuple[gymnasium.Env[Any, Any], Any]:
    with warnings.catch_warnings():
        # Each access to OGBench's spaces warns that their bounds become float32.
        warnings.simplefilter("ignore")
        env = gymnasium.make(gymnasium_id, disable_env_checker=True, **options)
        if gymnasium_id.startswith(VISUAL):
            observe_states(env)
        return env, _fix_action_space(env)


def _fix_action_space(env: gymnasium.Env[Any, Any]) -> Any:
    """Replace OGBench's action space, rebuilt and unseeded at each access, by one that keeps its seed."""
    inner = env.unwrapped
    space = inner.__dict__["_kept_space"] = inner.action_space
    original = type(inner)
    inner.__class__ = type(original.__name__, (original,), {"action_space": property(lambda self: self._kept_space)})
    return space


def _describes(value: Any) -> bool:
    """Return whether a value is a part of a model's description, or a list of them."""
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, mjcf.Element)
