"""The noise that chunks are inferred from: it restarts from a seed, and says how far it has been drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Numbers skipped at once, so that a long way takes little memory.
_SKIPPED_AT_ONCE = 1 << 20


class NoiseSource:
    """Standard normal numbers from a seed; the same seed, drawn as far, goes on with the same numbers to the bit.

    Args:
        seed: Where it begins.

    Attributes:
        drawn: Numbers drawn since the seed, those that were skipped included.
    """

    def __init__(self, seed: int) -> None:
        self.restart(seed)

    def restart(self, seed: int, drawn: int = 0) -> None:
        """Begin anew at a seed and skip the first `drawn` numbers."""
        self._random = np.random.default_rng(seed)
        for start in range(0, drawn, _SKIPPED_AT_ONCE):
            self._random.standard_normal(min(_SKIPPED_AT_ONCE, drawn - start), dtype=np.float32)
        self.drawn = drawn

    def draw(self, samples: int, size: int) -> NDArray[np.float32]:
        """Draw the noise of a chunk of `size` numbers for a number of candidates, float32 [samples, size]."""
        self.drawn += samples * size
        return self._random.standard_normal((samples, size), dtype=np.float32)
