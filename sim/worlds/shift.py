"""Domain shift: what differs between the simulation a policy was trained in and the one it is tested in.

Every shift is drawn from the seed of the episode, so that one shift and one seed are the same episode in process and
over the bridge. Each source of randomness has a stream of its own: drop-outs are the same with and without noise.
Nothing here needs MuJoCo or ROS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgf_ros.control.extraction import JointReading, PoseReading, Reading, TwistReading, VectorReading
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError

Array = NDArray[np.float64]

#: Lowest and highest value of each shift.
RANGES: dict[str, tuple[float, float]] = {
    "observation_noise": (0.0, 1.0),
    "observation_delay": (0, 100),
    "observation_dropout": (0.0, 0.95),
    "action_delay": (0, 100),
    "friction_factor": (0.05, 20.0),
    "mass_factor": (0.05, 20.0),
    "size_factor": (0.5, 2.0),
    "camera_jitter": (0.0, 0.5),
    "picture_noise": (0.0, 128.0),
    "brightness_factor": (0.0, 4.0),
    "occlusion": (0.0, 1.0),
}

_OF_THE_MODEL = ("friction_factor", "mass_factor", "size_factor", "camera_jitter")
# Topics that report states, not measurements; they have no noise.
_EXACT = ("button_states",)
# Streams of an episode's generator. To NumPy (seed, 0) is the same as seed, which is the environment's own.
_NOISE, _DROPOUT, _CAMERA = 1, 2, 3


@dataclass(frozen=True)
class Shift:
    """One domain shift; the defaults are none.

    Attributes:
        observation_noise: Standard deviation of white Gaussian noise on each measured value, in the value's own unit:
            m, rad, m/s, rad/s, N, N m. An orientation turns by a rotation vector of that deviation per axis [rad].
        observation_delay: Age of what is measured [control steps]. The messages are stamped when they go out, as by a
            driver that does not know of its sensor's latency, so nothing tells the policy.
        observation_dropout: Probability that the message of a topic is not published in a control step. A step that
            lacks one has no observation to answer, and the robot stands still in it. The first is always complete.
        action_delay: Control steps from a command to its effect; the robot stands still until the first one.
        friction_factor: Times the friction of every contact.
        mass_factor: Times mass and inertia of every object; the robot's stay.
        size_factor: Times the size of every free object, whose mass stays.
        camera_jitter: Standard deviation of the camera's pose, drawn once per episode: of each coordinate of its
            position [m] and of its rotation vector [rad].
        picture_noise: Standard deviation of white Gaussian noise on each number of a pixel [0 to 255].
        brightness_factor: Times the brightness of what the robot's cameras see; 0 for cameras that see nothing.
        occlusion: Height and width of a grey patch over the pictures, as a share of theirs; its place is drawn once per
            episode.

    Raises:
        SimulationError: A value is outside its range.
    """

    observation_noise: float = 0.0
    observation_delay: int = 0
    observation_dropout: float = 0.0
    action_delay: int = 0
    friction_factor: float = 1.0
    mass_factor: float = 1.0
    size_factor: float = 1.0
    camera_jitter: float = 0.0
    picture_noise: float = 0.0
    brightness_factor: float = 1.0
    occlusion: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SimulationError(f"{name} {value} was given; it must be from {low:g} to {high:g}")

    @property
    def changed(self) -> dict[str, float]:
        """The values that are not their defaults, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(NONE, name)}

    @property
    def alters_model(self) -> bool:
        """Whether the simulation itself is another one, not only what lies between it and the topics."""
        return not self.changed.keys().isdisjoint(_OF_THE_MODEL)

    @property
    def label(self) -> str:
        """What a table calls it."""
        return ", ".join(f"{name} {value:g}" for name, value in self.changed.items()) or "none"


#: No shift.
NONE = Shift()


def parse_shifts(text: str) -> tuple[Shift, ...]:
    """Return the levels that a text such as ``observation_noise=0,0.005,0.01,action_delay=1`` names.

    A name with one value has it in every level; names with several have equally many, which change together.

    Raises:
        SimulationError: A name is unknown, a value is none, or the counts differ.
    """
    levels: dict[str, list[float]] = {}
    name = ""
    for part in text.split(","):
        key, equals, value = part.rpartition("=")
        name = key.strip() if equals else name
        if name not in RANGES:
            raise SimulationError(f"shift {part!r} was given; give NAME=VALUE with a name of {', '.join(RANGES)}")
        if equals and name in levels:
            raise SimulationError(f"shift {name} was given twice; give its levels at once, such as {name}=1,2")
        levels.setdefault(name, []).append(_number(name, value))
    counts = {len(values) for values in levels.values()} - {1}
    if len(counts) > 1:
        raise SimulationError(f"shift {text!r} was given; names with several levels must have equally many")
    count = counts.pop() if counts else 1
    return tuple(
        Shift(**{name: values[i % len(values)] for name, values in levels.items()})  # type: ignore[arg-type]
        for i in range(count)
    )


def _number(name: str, text: str) -> float:
    kind = type(getattr(NONE, name))
    try:
        value: float = kind(text)
    except ValueError:
        number = "a whole number" if kind is int else "a number"
        raise SimulationError(f"shift {name} was given {text!r}, expected {number}") from None
    return value


class Channel:
    """What lies between the simulation and the topics in one episode: sensors and actuators that are not perfect.

    Args:
        shift: The domain shift.
        seed: Of the episode.
    """

    def __init__(self, shift: Shift, seed: int) -> None:
        self._shift = shift
        self._noise, self._dropout = (np.random.default_rng((seed, stream)) for stream in (_NOISE, _DROPOUT))
        self._measured: deque[dict[str, Reading | ImageReading]] = deque(maxlen=shift.observation_delay + 1)
        self._commands: deque[Array] = deque()

    def observe(self, readings: Mapping[str, Reading | ImageReading]) -> dict[str, Reading | ImageReading]:
        """Return what is published of the readings of one control step; topics that drop out are missing."""
        first = not self._measured
        self._measured.append({topic: self._measure(topic, reading) for topic, reading in readings.items()})
        published = dict(self._measured[0])
        if self._shift.observation_dropout > 0.0 and not first:
            lost = self._dropout.random(len(published)) < self._shift.observation_dropout
            published = {topic: published[topic] for topic, gone in zip(list(published), lost) if not gone}
        return published

    def act(self, command: Array) -> Array:
        """Return the command that takes effect when `command` is given, float64 [A]; zero is standing still."""
        self._commands.append(command)
        return self._commands.popleft() if len(self._commands) > self._shift.action_delay else np.zeros_like(command)

    def _measure(self, topic: str, reading: Reading | ImageReading) -> Reading | ImageReading:
        if (
            self._shift.observation_noise == 0.0
            or topic in _EXACT
            or isinstance(reading, (VectorReading, ImageReading))
        ):
            return reading
        if isinstance(reading, PoseReading):
            turn = rotation(self._noise.normal(0.0, self._shift.observation_noise, 3))
            return PoseReading(self._noisy(reading.position), multiply(turn, reading.quaternion_xyzw))
        if isinstance(reading, JointReading):
            columns: tuple[str, ...] = ("position", "velocity", "effort")
        else:
            columns = ("linear", "angular") if isinstance(reading, TwistReading) else ("force", "torque")
        changed: dict[str, Any] = {name: self._noisy(getattr(reading, name)) for name in columns}
        return replace(reading, **changed)

    def _noisy(self, values: Array) -> Array:
        return values + self._noise.normal(0.0, self._shift.observation_noise, values.shape)


def camera_offset(shift: Shift, seed: int) -> tuple[Array, Array]:
    """Return where the camera of an episode is off: a position [m], float64 [3], and a quaternion xyzw, float64 [4]."""
    random = np.random.default_rng((seed, _CAMERA))
    return random.normal(0.0, shift.camera_jitter, 3), rotation(random.normal(0.0, shift.camera_jitter, 3))


def rotation(vector: Array) -> Array:
    """Return the quaternion xyzw, float64 [4], of a rotation vector [rad], float64 [3]."""
    angle = float(np.linalg.norm(vector))
    # sinc keeps the limit at zero: sin(angle / 2) / angle -> 1/2.
    return np.append(0.5 * np.sinc(angle / (2.0 * np.pi)) * vector, np.cos(angle / 2.0))


def multiply(first: Array, second: Array) -> Array:
    """Return the product of two quaternions xyzw, float64 [4]: the rotation `second`, then `first`."""
    u, v = first[:3], second[:3]
    vector = first[3] * v + second[3] * u + np.cross(u, v)
    return np.append(vector, first[3] * second[3] - u @ v)
