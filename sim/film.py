"""Films of episodes, side by side: one column per guidance weight, the same seed in each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qgf_ros.control.controller import Settings
from qgf_ros.errors import SimulationError
from qgf_ros.runtime.policy import Policy
from qgf_sim.environment import CONTROL_PERIOD, Step, TaskEnvironment
from qgf_sim.evaluation import check_environment
from qgf_sim.results import critic_for_task
from qgf_sim.rollout import run_batch

_CAPTION = 26  # [px]
_ENDING = 20  # frames that hold the last picture

Picture = NDArray[np.uint8]


class _FilmedEnvironment(TaskEnvironment):  # type: ignore[misc]
    """Takes a captioned picture before every n-th step, and when asked."""

    def __init__(self, name: str, task: int, label: str, size: tuple[int, int], every: int) -> None:
        super().__init__(name, task)
        self.pictures: list[Picture] = []
        self._label, self._size, self._every = label, size, every
        self._length = 0

    def step(self, command: NDArray[np.float64]) -> Step:
        if self._length % self._every == 0:
            self.take_picture(f"step {self._length}")
        self._length += 1
        return super().step(command)

    def take_picture(self, text: str) -> None:
        self.pictures.append(_caption(self.render(*self._size), f"{self._label}   {text}"))


def film_episode(
    policy: Policy, task: int, seed: int, weight: float, size: tuple[int, int], every: int
) -> tuple[list[Picture], bool]:
    """Run one episode and return its captioned pictures, uint8 [height, width, 3], and whether it succeeded."""
    manifest = policy.manifest
    label = f"BC + Q guidance, weight {weight:g}" if weight else "behaviour cloning"
    env = _FilmedEnvironment(check_environment(manifest), task, label, size, every)
    settings = Settings(weight, critic_for_task(manifest, task), 1, manifest.execution_horizon, seed)
    (episode,) = run_batch(policy, [env], settings, [seed])
    env.take_picture(f"{'solved' if episode.success else 'not solved'} after {episode.length}")
    env.close()
    return env.pictures, episode.success


def _caption(picture: Picture, text: str) -> Picture:
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + _CAPTION), "white")
    image.paste(Image.fromarray(picture), (0, _CAPTION))
    ImageDraw.Draw(image).text((8, 6), text, fill="black", font=ImageFont.load_default(14))
    return np.asarray(image)


def write_film(
    bundle: Path,
    task: int,
    seed: int,
    weights: Sequence[float],
    out: Path,
    *,
    size: tuple[int, int] = (320, 240),
    every: int = 2,
) -> dict[float, bool]:
    """Film the same seed at several weights, side by side, as an animated GIF.

    Args:
        bundle: Folder of the bundle.
        task: Single-task number.
        seed: Of environment and noise.
        weights: One column each.
        out: A ``.gif`` file.
        size: Width and height of a column [px].
        every: Control steps per frame.

    Returns:
        Success by weight.

    Raises:
        SimulationError: The file name is no GIF, or there is no GL back end.
    """
    if out.suffix != ".gif":
        raise SimulationError(f"{out} was given; films are animated GIFs, name it something.gif")
    policy = Policy.load(bundle)
    try:
        columns = [film_episode(policy, task, seed, weight, size, every) for weight in weights]
    except (RuntimeError, AttributeError, ImportError) as error:
        raise SimulationError(
            f"no picture could be rendered ({error}); install Mesa's libegl1 and set MUJOCO_GL=egl"
        ) from error
    longest = max(len(pictures) for pictures, _ in columns) + _ENDING
    frames = [
        Image.fromarray(np.concatenate([pictures[min(i, len(pictures) - 1)] for pictures, _ in columns], axis=1))
        for i in range(longest)
    ]
    # One palette for the whole film keeps colours still and the file small; "coverage" keeps small things coloured.
    palette = frames[0].quantize(160, method=Image.Quantize.MAXCOVERAGE)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{os.getpid()}-{out.name}")
    duration = round(1000 * CONTROL_PERIOD * every)
    reduced[0].save(
        temporary, "GIF", save_all=True, append_images=reduced[1:], duration=duration, loop=0, optimize=True
    )
    os.replace(temporary, out)
    return {weight: success for weight, (_, success) in zip(weights, columns)}
