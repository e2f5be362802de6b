"""Films of episodes, side by side: one column per guidance weight, the same seed in each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from qgf_ros.control.controller import Controller, Settings
from qgf_ros.control.observation import ObservationAssembler
from qgf_ros.errors import SimulationError
from qgf_ros.runtime.policy import Policy
from qgf_sim.environment import CONTROL_PERIOD, TaskEnvironment
from qgf_sim.evaluation import check_environment
from qgf_sim.results import critic_for_task

_PERIOD_NS = round(CONTROL_PERIOD * 1e9)
_CAPTION = 26  # [px]
_ENDING = 20  # frames that hold the last picture

Picture = NDArray[np.uint8]


def film_episode(
    policy: Policy, task: int, seed: int, weight: float, size: tuple[int, int], every: int
) -> tuple[list[Picture], bool]:
    """Run one episode and return its captioned pictures, uint8 [height, width, 3], and whether it succeeded."""
    manifest = policy.manifest
    env = TaskEnvironment(check_environment(manifest), task)
    controller = Controller(
        policy, Settings(weight, critic_for_task(manifest, task), 1, manifest.execution_horizon, seed)
    )
    assembler = ObservationAssembler(manifest.observation)
    label = f"BC + Q guidance, weight {weight:g}" if weight else "behaviour cloning"
    pictures: list[Picture] = []
    readings, stamp, done, success, length = env.reset(seed), 0, False, False, 0
    while not done:
        for topic, reading in readings.items():
            assembler.update(topic, stamp, reading)
        command = controller.tick(assembler.assemble(stamp))
        if length % every == 0:
            pictures.append(_caption(env.render(*size), f"{label}   step {length}"))
        step = env.step(command.values)
        readings, done, success = step.readings, step.done, step.success
        stamp += _PERIOD_NS
        length += 1
    pictures.append(_caption(env.render(*size), f"{label}   {'solved' if success else 'not solved'} after {length}"))
    env.close()
    return pictures, success


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
