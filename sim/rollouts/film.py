"""Films of episodes, side by side: one column per guidance weight, the same seed in each, with Q and outcome.

Beside the scene stands what the policy sees, where it sees anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qgf_ros.analysis.inputs import Primitives, load_primitives
from qgf_ros.bundle.manifest import Manifest
from qgf_ros.control.extraction import Reading
from qgf_ros.control.inference import Chunk
from qgf_ros.control.run_options import RunOptions
from qgf_ros.control.vision.pictures import ImageReading
from qgf_ros.errors import SimulationError
from qgf_ros.evaluation.plan import EpisodePlan
from qgf_ros.runtime.encoders import Images
from qgf_ros.runtime.policy import Policy
from qgf_sim.rollouts.evaluate import check_environment
from qgf_sim.rollouts.film_files import Picture, check_film, check_sheet, write_pictures, write_sheet
from qgf_sim.rollouts.film_panels import panel
from qgf_sim.rollouts.rollout import Vectors, WatchedPolicy, run_batch
from qgf_sim.worlds.environment import CONTROL_PERIOD, Step, TaskEnvironment

_PIXELS = (16, 4096)  # as of the bridge's camera
_CAPTION = 40  # [px], two lines
_EVERY = (1, 1000)  # control steps per frame; GIF cannot hold a picture for much longer than 10 minutes
_ENDING = 3.0  # [s] that the last picture stands


@dataclass(frozen=True)
class Column:
    """One filmed episode.

    Attributes:
        weight: Guidance weight.
        success: Whether the task was solved.
        pictures: uint8 [height, width, 3] each, with a caption.
    """

    weight: float
    success: bool
    pictures: list[Picture]


class _Judge:
    """Says what a critic thinks of chunks, at every weight; plain behaviour cloning by itself asks none.

    Attributes:
        value: Q of the last chunk.
    """

    def __init__(self, primitives: Primitives, critic: str) -> None:
        self.value = float("nan")
        self._primitives, self._critic = primitives, critic

    def __call__(self, observations: Vectors, images: Images, chunks: list[Chunk]) -> None:
        (chunk,) = chunks
        action = chunk.actions.reshape(1, -1).astype(np.float32)
        critic, seen = self._primitives.critics[self._critic], self._primitives.given(observations, images)
        given = observations if seen is None else seen.of(self._critic)
        self.value = float(critic.aggregate(critic.given(given)(action))[0])


class _FilmedEnvironment(TaskEnvironment):
    """Takes a captioned picture before every n-th step, and when asked."""

    def __init__(
        self, manifest: Manifest, judge: _Judge, task: int, label: str, size: tuple[int, int], every: int
    ) -> None:
        super().__init__(check_environment(manifest), task)
        self.pictures: list[Picture] = []
        self._cameras, self._judge, self._label, self._size, self._every = manifest.cameras, judge, label, size, every
        self._length = 0
        self._readings: dict[str, Reading | ImageReading] = {}

    def readings(self) -> dict[str, Reading | ImageReading]:
        self._readings = super().readings()
        return self._readings

    def step(self, command: NDArray[np.float64]) -> Step:
        if self._length % self._every == 0:
            self.take_picture(f"step {self._length}")
        self._length += 1
        return super().step(command)

    def take_picture(self, text: str) -> None:
        lines = (self._label, f"{text}   Q {self._judge.value:.1f}")
        picture = self.render(*self._size)
        if seen := self._seen():
            picture = np.concatenate([picture, panel(seen, len(picture))], axis=1)
        self.pictures.append(_caption(picture, lines))

    def _seen(self) -> dict[str, Picture]:
        """Return what the policy sees of the present step, by camera."""
        found = {}
        for name, camera in self._cameras.items():
            from qgf_ros.control.vision.decoding import decode  # here, because it needs OpenCV, as nothing else does

            reading = self._readings[camera.topic]
            assert isinstance(reading, ImageReading)
            found[name] = decode(name, camera, reading)
        return found


def film_episode(
    policy: Policy, primitives: Primitives, task: int, options: RunOptions, size: tuple[int, int], every: int
) -> Column:
    """Run one episode with resolved options and film it; Q is that of the chunk under way."""
    weight = options.guidance_weight
    label = f"BC + Q guidance, weight {weight:g}" if weight else "behaviour cloning"
    judge = _Judge(primitives, options.critic)
    env = _FilmedEnvironment(policy.manifest, judge, task, label, size, every)
    try:
        (episode,) = run_batch(WatchedPolicy(policy, judge), [env], options, [options.seed])
        env.take_picture(f"{'solved' if episode.success else 'not solved'} after {episode.length} steps")
    finally:
        env.close()
    return Column(weight, episode.success, env.pictures)


def _caption(picture: Picture, lines: tuple[str, str]) -> Picture:
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + _CAPTION), "white")
    image.paste(Image.fromarray(picture), (0, _CAPTION))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for i, line in enumerate(lines):
        draw.text((8, 3 + 17 * i), line, fill="black", font=font)
    return np.asarray(image)


def write_film(
    plan: EpisodePlan,
    out: Path | None,
    sheet: Path | None = None,
    *,
    size: tuple[int, int] = (320, 240),
    every: int = 2,
) -> dict[float, bool]:
    """Film the same seed at several weights, side by side.

    Args:
        plan: What to film: its first seed at each of its weights, one column each.
        out: A ``.gif`` or ``.mp4`` file; None for none.
        sheet: A ``.png`` file for a contact sheet, one row per weight; None for none.
        size: Width and height of the scene in a column [px]; what the policy sees stands beside it.
        every: Control steps per frame.

    Returns:
        Success by weight.

    Raises:
        SimulationError: A file name has another ending, size or `every` is out of range, or there is no GL back end.
        ModuleNotFoundError: An mp4 was asked for, and PyAV is not installed.
    """
    if out is not None:
        check_film(out)
    if sheet is not None:
        check_sheet(sheet)
    lower, upper = _PIXELS
    if not _EVERY[0] <= every <= _EVERY[1] or not all(lower <= pixels <= upper for pixels in size):
        raise SimulationError(
            f"width {size[0]}, height {size[1]} and every {every} were given; "
            f"expected {lower} to {upper} pixels each way, and a frame every {_EVERY[0]} to {_EVERY[1]} steps"
        )
    policy = Policy.load(plan.bundle)
    plan.check(policy.manifest)
    runs = [plan.options_at(policy.manifest, weight) for weight in plan.guidance_weights]
    primitives = load_primitives(plan.bundle)
    try:
        columns = [film_episode(policy, primitives, plan.task, options, size, every) for options in runs]
    except (RuntimeError, AttributeError, ImportError) as error:
        if getattr(error, "name", "") == "cv2":  # without which no policy sees, whatever can be rendered
            raise
        raise SimulationError(
            f"no picture could be rendered ({error}); install Mesa's libegl1 and set MUJOCO_GL=egl"
        ) from error
    if out is not None:
        period = CONTROL_PERIOD * every
        longest = max(len(column.pictures) for column in columns) + max(1, round(_ENDING / period))
        frames = [
            np.concatenate([column.pictures[min(i, len(column.pictures) - 1)] for column in columns], axis=1)
            for i in range(longest)
        ]
        write_pictures(out, frames, period)
    if sheet is not None:
        write_sheet(sheet, [column.pictures for column in columns])
    return {column.weight: column.success for column in columns}
