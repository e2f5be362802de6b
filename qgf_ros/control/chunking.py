"""When to ask for a new action chunk, which of its actions is due, and how one chunk goes over into the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: m of temporal ensembling: a chunk weighs exp(m) times as much as the next newer one. The value in ACT's code.
ENSEMBLE_DECAY = 0.01


class ChunkSchedule:
    """Plays an action chunk against observation stamps.

    Actions belong to times, not to calls: action k of a chunk that answers the observation stamped t0 is due at
    t0 + k * period. A tick that is skipped therefore skips its action, and a jump in the stamps (a reset, a pause, a
    restarted sensor) ends the chunk by itself. It may be cleared from another thread meanwhile.

    Args:
        period: Control period [s].
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._playing: tuple[int, Array] | None = None
        #: Start and inferred actions of every chunk that the one under way is blended from, oldest first.
        self._inferred: tuple[tuple[int, Array], ...] = ()

    def start(self, stamp: int, chunk: Array) -> None:
        """Begin a chunk, float32 [H, A], that answers the observation stamped `stamp` [ns]."""
        self._playing = (stamp, chunk)
        self._inferred = ((stamp, chunk),)

    def join(self, stamp: int, now: int, chunk: Array, execution_horizon: int, seam: str, blend_steps: int) -> None:
        """Go on at `now` [ns] with a chunk, float32 [H, A], that answers the observation stamped `stamp` [ns].

        It goes on after the actions that were executed since that observation. These are as many as control periods
        have gone by, or fewer if the chunk before ran out: the robot stood still then, and what it did not do is not
        skipped.

        Args:
            stamp, now: Stamps of the observation answered and of the one at hand.
            chunk: The new chunk.
            execution_horizon: How many actions of the chunk before may have been executed.
            seam: One of `SEAMS`.
            blend_steps: Length of a linear cross-fade.
        """
        delay = self.periods(now - stamp)
        executed = min(delay, len(self.left(stamp, execution_horizon)))
        if executed < delay:
            self.start(now - round(executed * self._period * 1e9), chunk)
            return
        played = chunk
        inferred: tuple[tuple[int, Array], ...] = ((stamp, chunk),)
        if seam == "linear":
            played = cross_fade(self.left(stamp), chunk, executed, blend_steps)
        elif seam == "ensemble":
            inferred = (*((start, one) for start, one in self._inferred if len(self._from(now, start, one))), *inferred)
            played = ensemble([self._from(stamp, start, one) for start, one in inferred])
        self._playing, self._inferred = (stamp, played), inferred

    def clear(self) -> None:
        """Drop the chunk; the next tick needs a new one."""
        self._playing, self._inferred = None, ()

    def action(self, stamp: int, execution_horizon: int) -> Array | None:
        """Return the action due at `stamp` [ns], float32 [A], or None when a new chunk is needed.

        Args:
            stamp: Stamp of the observation to answer [ns].
            execution_horizon: How many actions of a chunk may be executed.
        """
        left = self.left(stamp, execution_horizon)
        return np.asarray(left[0]) if len(left) else None

    def left(self, stamp: int, execution_horizon: int | None = None) -> Array:
        """Return the actions that are due from `stamp` [ns] on, float32 [K, A]; none where the chunk does not cover it."""
        playing = self._playing
        if playing is None:
            return np.empty((0, 0), dtype=np.float32)
        start, chunk = playing
        return self._from(stamp, start, chunk[:execution_horizon])

    def periods(self, nanoseconds: int) -> int:
        """Return a difference of stamps in control periods, rounded."""
        return round(nanoseconds * 1e-9 / self._period)

    def _from(self, stamp: int, start: int, chunk: Array) -> Array:
        first = self.periods(stamp - start)
        left: Array = chunk[first:] if first >= 0 else chunk[:0]
        return left


def cross_fade(before: Array, after: Array, first: int, steps: int) -> Array:
    """Return a chunk that goes over linearly from the one before it.

    Args:
        before: Actions left of the chunk before [K, A].
        after: The chunk [H, A]; both begin at the same time.
        first: Number of the first action that is mixed.
        steps: How many are mixed, as far as the chunk before reaches.
    """
    mixed = slice(first, min(first + steps, len(before)))
    count = len(before[mixed])
    if not count:
        return after
    share = (np.arange(1, count + 1, dtype=np.float32) / np.float32(count + 1))[:, None]
    faded: Array = after.copy()
    faded[mixed] = (1.0 - share) * before[mixed] + share * after[mixed]
    return faded


def ensemble(chunks: Sequence[Array]) -> Array:
    """Return the temporal ensemble of chunks: each action averaged over all of them that reach that far.

    The weights are exp(-m i), i = 0 for the oldest chunk: Action Chunking with Transformers, arXiv 2304.13705.

    Args:
        chunks: [K, A] each, all from the same time on, oldest first; the last reaches furthest.
    """
    averaged: Array = chunks[-1].copy()
    for k in range(len(averaged)):
        actions = np.array([chunk[k] for chunk in chunks if len(chunk) > k])
        weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(actions), dtype=np.float32))
        averaged[k] = weights @ actions / weights.sum()
    return averaged
