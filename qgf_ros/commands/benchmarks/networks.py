"""Which networks are timed: those of a bundle, random ones of any size, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qgf_ros.commands.benchmarks.output import located


@dataclass(frozen=True)
class RandomNetworks:
    """Random networks, since what a tick costs depends on their sizes alone.

    Attributes:
        random: Random networks instead of a bundle, or as well: hidden layers x width, such as 4x1024 or 3x256,4x1024.
        obs: Observation size of random networks.
        action: Action size of random networks.
        horizon: Actions per chunk of random networks.
        denoising_steps: Denoising steps of random networks.
    """

    random: str = ""
    obs: int = 46
    action: int = 5
    horizon: int = 5
    denoising_steps: int = 10


#: Their options, without a prefix.
RandomOptions = Annotated[RandomNetworks, tyro.conf.arg(name="")]


@contextmanager
def timed_networks(bundle: Path | None, chosen: RandomNetworks, seed: int) -> Iterator[Mapping[str, Path]]:
    """Give the bundles to be timed by name, the random ones in a folder that goes away.

    Args:
        bundle: Folder or name; the shipped bundle by default, none where random networks are chosen.
        chosen: Random networks.
        seed: Of their weights.

    Raises:
        BundleError: There is no such bundle.
        GuidanceError: The text of the random networks means nothing, or a size is below 1.
    """
    import tempfile

    networks: dict[str, Path] = {}
    if bundle is not None or not chosen.random:
        path = located(bundle)
        networks[path.name] = path
    with tempfile.TemporaryDirectory() as folder:
        if chosen.random:
            from qgf_ros.benchmark.random_bundle import parse_shapes, write_random_bundle

            sizes = (chosen.obs, chosen.action, chosen.horizon, chosen.denoising_steps)
            for shape in parse_shapes(chosen.random, *sizes):
                networks[shape.name] = Path(folder, shape.name)
                write_random_bundle(networks[shape.name], shape, seed)
        yield networks
