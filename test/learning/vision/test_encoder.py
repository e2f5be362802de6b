"""The encoder: its features see the pictures, its state passes unchanged, and its weights follow from the seed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from qgf_ros.errors import TrainingError  # noqa: E402
from qgf_ros.learning.vision.encoder import PictureEncoder, shifted  # noqa: E402

SIZES = {"wrist": (16, 24), "front": (8, 8)}


def pictures(count: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randint(0, 256, (count, *s, 3), generator=generator, dtype=torch.uint8) for n, s in SIZES.items()}


def encoder(seed: int = 0) -> PictureEncoder:
    return PictureEncoder(SIZES, 6, torch.Generator().manual_seed(seed))


def test_features_come_first_and_the_state_passes_as_it_is() -> None:
    state = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    z = encoder()(pictures(), state)
    assert z.shape == (5, 9)
    assert torch.equal(z[:, 6:], state)
    torch.testing.assert_close(z[:, :6].mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0.0)
    assert encoder()(pictures(), torch.zeros(5, 0)).shape == (5, 6)


def test_every_camera_and_every_corner_of_its_picture_is_seen() -> None:
    network, state = encoder(), torch.zeros(1, 0)
    black = {name: torch.zeros(1, *size, 3, dtype=torch.uint8) for name, size in SIZES.items()}
    before = network(black, state)
    for name, (height, width) in SIZES.items():
        for row, column in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
            changed = {key: value.clone() for key, value in black.items()}
            changed[name][0, row, column] = 255
            assert not torch.equal(network(changed, state), before)


def test_the_same_seed_gives_the_same_weights_and_a_row_is_encoded_alone() -> None:
    state = torch.zeros(5, 0)
    z = encoder()(pictures(), state)
    torch.manual_seed(99)
    assert torch.equal(encoder()(pictures(), state), z)
    assert not torch.equal(encoder(1)(pictures(), state), z)
    alone = encoder()({name: picture[2:3] for name, picture in pictures().items()}, state[:1])
    torch.testing.assert_close(alone[0], z[2])


@pytest.mark.parametrize(
    ("sizes", "features"),
    [({}, 4), ({"wrist": (7, 16)}, 4), ({"wrist": (16, 16)}, 0)],
    ids=["none", "small", "features"],
)
def test_an_encoder_of_nothing_is_refused(sizes: dict[str, tuple[int, int]], features: int) -> None:
    with pytest.raises(TrainingError, match="pictures of at least 8 pixels each way, and at least 1 feature"):
        PictureEncoder(sizes, features)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(0, 12))
def test_a_shifted_picture_is_a_part_of_the_one_whose_edges_are_repeated(
    seed: int, height: int, width: int, most: int
) -> None:
    random = np.random.default_rng(seed)
    plain = random.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    by = random.integers(-most, most + 1, (4, 2))
    moved = shifted(torch.from_numpy(plain), torch.from_numpy(by)).numpy()
    padded = np.pad(plain, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    for picture, whole, (down, right) in zip(moved, padded, by):
        assert np.array_equal(picture, whole[most - down :, most - right :][:height, :width])
