"""Random numbers that depend on where a run stands, not on how it got there."""

from __future__ import annotations

import logging
import random

import numpy as np
import torch
from detectron2.utils import comm

logger = logging.getLogger(__name__)


def resolve_seed(seed: int | None) -> int:
    """Returns the seed, or one drawn by all processes together where it is negative or None."""
    if seed is not None and seed >= 0:
        return int(seed)
    drawn = int(comm.shared_random_seed()) % 2**31
    logger.info("Drew the random seed %d.", drawn)
    return drawn


def seed_everything(seed: int, *position: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch (on all devices).

    Equal arguments give equal draws, different ones, also of different number, independent draws.

    Args:
        seed: The run's seed, not negative.
        *position: Non-negative integers which name a point of the run, such as the iteration and
            the rank.
    """
    # As parts of the seed itself, (7,) and (7, 0, 0, 0) would be the same.
    sequence = np.random.SeedSequence(seed, spawn_key=position)
    words = sequence.generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))
