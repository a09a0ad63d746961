"""Which sample comes when: the order of training as a function of the seed, without state.

Batches of one rank hold images of one orientation, so that little of them is padding. Each
orientation is an endless sequence of shuffled passes over its images, cut into batches; a batch
may therefore run over the end of a pass, and no image is ever left out. Which orientation comes
next is shuffled too. All of this can be computed for any position alone, which is what makes
a resumed run see the samples of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["BatchPlan", "orientation_groups"]

IntArray = npt.NDArray[np.int64]


class BatchPlan:
    """An endless sequence of batches of indices, for any number of ranks.

    Args:
        groups: For each sample, the number of the group that its batches are made of.
        batch_size: Samples in a batch of one rank.
        seed: Decides about every order.
    """

    def __init__(self, groups: Sequence[int], batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not len(groups):
            raise ValueError("a plan needs at least one sample, got none")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.batch_size = batch_size
        self.seed = seed
        labels = np.asarray(groups, dtype=np.int64)
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if min(len(group) for group in members) < batch_size:
            # A batch would hold the same image twice: better to mix the orientations.
            members = [np.arange(len(labels))]
        self._members: list[IntArray] = members

    def index(self, position: int) -> int:
        """Returns the sample at a position, counted over the batches of all ranks.

        Args:
            position: ``batch number * batch_size + slot``.

        Returns:
            Index of the sample.
        """
        group, number = self._locate(position // self.batch_size)
        members = self._members[group]
        epoch, place = divmod(number * self.batch_size + position % self.batch_size, len(members))
        return int(members[_permutation(self.seed, group, epoch, len(members))[place]])

    def substitute(self, position: int, attempt: int) -> int:
        """Returns a sample of the same group to take where the planned one cannot be used.

        Args:
            position: As in ``index``.
            attempt: How many were tried before, from 1.

        Returns:
            Index of the sample.
        """
        members = self._members[self._locate(position // self.batch_size)[0]]
        return int(members[_generator(self.seed, 2, position, attempt).integers(len(members))])

    def batch(self, iteration: int, rank: int, world_size: int) -> range:
        """Returns the positions of the batch that a rank gets in an iteration.

        Args:
            iteration: Number of the step, from 0.
            rank: Number of the process, from 0.
            world_size: Number of processes.

        Returns:
            ``batch_size`` consecutive positions.
        """
        # Ranks take turns, so that the next iteration goes on where the last rank stopped.
        start = (iteration * world_size + rank) * self.batch_size
        return range(start, start + self.batch_size)

    def _locate(self, batch: int) -> tuple[int, int]:
        """Returns the group that a batch is of, and the number of the batch within the group."""
        epoch = self._epoch_of(batch)
        sequence = _group_sequence(self.seed, epoch, self._batches_of_epoch(epoch))
        # Batches of earlier epochs, all groups together, come first.
        offset = batch - sum(self._finished(group, epoch) for group in range(len(self._members)))
        group = int(sequence[offset])
        earlier = int((sequence[:offset] == group).sum())
        return group, self._finished(group, epoch) + earlier

    def _epoch_of(self, batch: int) -> int:
        # Double the bound, then halve the interval: some 40 steps even for the longest training.
        low, high = 0, 1
        while self._finished_by_all(high) <= batch:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._finished_by_all(middle) <= batch else (low, middle)
        return low

    def _finished(self, group: int, epoch: int) -> int:
        """Returns how many batches a group has filled before an epoch begins."""
        # What is left of a pass is not dropped: it begins the first batch of the next one.
        return epoch * len(self._members[group]) // self.batch_size

    def _finished_by_all(self, epoch: int) -> int:
        return sum(self._finished(group, epoch) for group in range(len(self._members)))

    def _batches_of_epoch(self, epoch: int) -> tuple[int, ...]:
        return tuple(
            self._finished(group, epoch + 1) - self._finished(group, epoch)
            for group in range(len(self._members))
        )


def orientation_groups(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the group of each image: 0 for those wider than high, else 1.

    Args:
        sizes: (width, height) of each image.

    Returns:
        One number per image.
    """
    return [0 if width > height else 1 for width, height in sizes]


# A handful of epochs and groups is in use at a time, by each worker.
@lru_cache(maxsize=16)
def _permutation(seed: int, group: int, epoch: int, length: int) -> IntArray:
    return _generator(seed, 0, group, epoch).permutation(length)


@lru_cache(maxsize=4)
def _group_sequence(seed: int, epoch: int, counts: tuple[int, ...]) -> IntArray:
    return _generator(seed, 1, epoch).permutation(np.repeat(np.arange(len(counts)), counts))


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, *purpose]))
