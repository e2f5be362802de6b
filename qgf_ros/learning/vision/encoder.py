"""The encoder: what the cameras see and what is known otherwise in, features out; small enough for a processor.

Each camera has three strided convolutions of its own; one dense layer makes features of what they find, with a LayerNorm,
so that networks behind it get numbers of about one. The state goes beside them as it is:

    pictures uint8 [N, h, w, 3] -> / 255 - 1/2 -> 8x8/4 to 32 -> 4x4/2 to 64 -> 3x3/2 to 64 -> dense -> LayerNorm  (F)
    state [N, S] -------------------------------------------------------------------------------------> z [N, F + S]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from qgf_ros.bundle.layers import LAYER_NORM_EPS
from qgf_ros.errors import TrainingError

#: Height and width of what a camera gives the policy, by its name [pixels].
Sizes = Mapping[str, tuple[int, int]]


class Convolution(NamedTuple):
    """One convolution: output channels, side of its kernel, stride, padding on each side."""

    channels: int
    kernel: int
    stride: int
    padding: int

    def side(self, side: int) -> int:
        """Return how long a side is after it [pixels]."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


CONVOLUTIONS = (Convolution(32, 8, 4, 2), Convolution(64, 4, 2, 1), Convolution(64, 3, 2, 1))
#: Shortest side of a picture [pixels].
SHORTEST = 8


class PictureEncoder(nn.Module):
    """Encoder of the pictures of some cameras.

    Args:
        sizes: Of the pictures.
        features: Numbers F that become of all of them.
        generator: Source of the initial weights (He for the convolutions, Glorot for the dense layer; biases are zero).

    Raises:
        TrainingError: There is no camera, a picture is too small, or `features` is not positive.
    """

    def __init__(self, sizes: Sizes, features: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        small = {name: size for name, size in sizes.items() if min(size) < SHORTEST}
        if small or not sizes or features < 1:
            raise TrainingError(
                f"pictures {small or dict(sizes)} (height, width) and {features} features were given; an encoder needs a "
                f"camera, pictures of at least {SHORTEST} pixels each way, and at least 1 feature"
            )
        self.cameras = tuple(sizes)
        self.kernels = nn.ParameterList()
        self.biases = nn.ParameterList()
        flat = 0
        for height, width in sizes.values():
            channels = 3
            for layer in CONVOLUTIONS:
                bound = math.sqrt(6.0 / (channels * layer.kernel**2))
                shape = (layer.channels, channels, layer.kernel, layer.kernel)
                self.kernels.append(nn.Parameter(_uniform(shape, bound, generator)))
                self.biases.append(nn.Parameter(torch.zeros(layer.channels)))
                channels, height, width = layer.channels, layer.side(height), layer.side(width)
            flat += channels * height * width
        self.weight = nn.Parameter(_uniform((flat, features), math.sqrt(6.0 / (flat + features)), generator))
        self.bias = nn.Parameter(torch.zeros(features))
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))

    @property
    def features(self) -> int:
        """Numbers F that become of the pictures."""
        return len(self.bias)

    def forward(self, pictures: Mapping[str, Tensor], state: Tensor) -> Tensor:
        """Map pictures, uint8 [N, h, w, 3] by camera, and the state [N, S] to z [N, F + S]."""
        found = []
        for number, name in enumerate(self.cameras):
            x = pictures[name].permute(0, 3, 1, 2).to(self.weight.dtype) * (1.0 / 255.0) - 0.5
            for index, layer in enumerate(CONVOLUTIONS, start=number * len(CONVOLUTIONS)):
                x = functional.conv2d(x, self.kernels[index], self.biases[index], layer.stride, layer.padding).relu()
            found.append(x.flatten(1))
        x = torch.addmm(self.bias, torch.cat(found, dim=1), self.weight)
        x = functional.layer_norm(x, self.bias.shape, self.scale, self.shift, LAYER_NORM_EPS)
        return torch.cat([x, state], dim=1)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator) * (2.0 * bound) - bound


def shifted(pictures: Tensor, by: Tensor) -> Tensor:
    """Return pictures each moved by some pixels, the edge repeated where nothing was (Kostrikov et al. 2021, DrQ).

    Args:
        pictures: [N, h, w, 3].
        by: How many rows down and columns to the right, int64 [N, 2].
    """
    count, height, width = pictures.shape[:3]
    rows, columns = (
        (torch.arange(side, device=pictures.device) - by[:, axis, None]).clamp(0, side - 1)
        for axis, side in enumerate((height, width))
    )
    row = torch.arange(count, device=pictures.device)[:, None] * height + rows
    pixel = row[:, :, None] * width + columns[:, None, :]
    # As one list of pixels this takes a third of the time of indexing each axis.
    return pictures.reshape(-1, pictures.shape[3]).index_select(0, pixel.reshape(-1)).view(pictures.shape)


def drawn_shifts(
    cameras: Iterable[str], count: int, most: int, generator: torch.Generator, device: torch.device
) -> dict[str, Tensor]:
    """Return how far to move the pictures of a batch, int64 [N, 2] by ``shift CAMERA``; each camera by its own draw.

    Args:
        cameras: Their names.
        count: Pictures of each, N.
        most: Most pixels in each direction; 0 for none.
        generator: Of the run, on the processor.
        device: Where the tensors are wanted.
    """
    return {
        f"shift {name}": (torch.randint(2 * most + 1, (count, 2), generator=generator) - most).to(device)
        for name in cameras
    }


def all_shifted(pictures: Mapping[str, Tensor], draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the pictures of every camera, [N, h, w, 3] by name, moved by what `drawn_shifts` drew for it."""
    return {name: shifted(frames, draws[f"shift {name}"]) for name, frames in pictures.items()}
