"""Shifts of pictures: what they do to pixels, and that nothing but the episode and its step decides how."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgf_sim.worlds.picture_shift import GREY, shifted_picture
from qgf_sim.worlds.shift import NONE, Shift

PICTURE = np.random.default_rng(0).integers(60, 200, (40, 50, 3), dtype=np.uint8)


def test_without_a_shift_of_pictures_a_picture_is_itself() -> None:
    assert shifted_picture(PICTURE, NONE, 1, 2) is PICTURE
    assert shifted_picture(PICTURE, Shift(mass_factor=2.0, camera_jitter=0.1), 1, 2) is PICTURE


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.2, 4.0])
def test_light_scales_every_number_of_a_pixel_and_saturates(factor: float) -> None:
    expected = np.clip(np.rint(PICTURE * factor), 0, 255)
    assert np.abs(shifted_picture(PICTURE, Shift(brightness_factor=factor), 1, 2) - expected).max() <= 1


def test_noise_has_its_deviation_and_is_another_in_every_step_and_episode() -> None:
    shift = Shift(picture_noise=5.0)
    drawn = [shifted_picture(PICTURE, shift, seed, step) for seed, step in ((1, 2), (1, 3), (4, 2))]
    for one in drawn:
        assert (one - PICTURE.astype(float)).std() == pytest.approx(5.0, rel=0.05)
        assert abs((one - PICTURE.astype(float)).mean()) < 0.3
    assert all((one != two).mean() > 0.8 for one, two in ((drawn[0], drawn[1]), (drawn[0], drawn[2])))
    assert np.array_equal(shifted_picture(PICTURE, shift, 1, 2), drawn[0])


@given(st.integers(0, 2**31), st.floats(0.03, 1.0), st.integers(0, 200))
def test_a_patch_has_its_size_and_stays_in_its_place_for_the_episode(seed: int, share: float, step: int) -> None:
    shift = Shift(occlusion=share)
    covered = shifted_picture(PICTURE, shift, seed, step)
    height, width = (int(np.rint(share * side)) for side in PICTURE.shape[:2])
    grey = (covered == GREY).all(axis=2)
    assert (grey.sum(axis=1) >= width).sum() >= height
    assert (grey.sum(axis=0) >= height).sum() >= width
    different = (covered != PICTURE).any(axis=2)
    assert different.sum() <= height * width
    assert np.array_equal(covered, shifted_picture(PICTURE, shift, seed, step + 1))
    assert PICTURE.max() < 200, "the picture itself stays"
