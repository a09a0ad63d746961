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


def seed_everything(*position: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch (on all devices).

    Args:
        *position: Non-negative integers which name a point of a run, such as the run's seed, the
            iteration and the rank. Equal positions give equal draws, different ones independent
            draws.
    """
    words = np.random.SeedSequence(position).generate_state(3, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))
