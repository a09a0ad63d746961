"""Random numbers that belong to one sample, whichever process draws them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["sample_randomness"]


@contextmanager
def sample_randomness(seed: int, position: int) -> Iterator[None]:
    """Run a block under the generators of Python, NumPy and PyTorch seeded for one sample.

    Afterwards they go on as if nothing had happened. The generators of accelerators are left
    alone: `torch.manual_seed` would reseed them, and with them a model's dropout.

    Args:
        seed: seed of the run, not negative.
        position: number of the sample in the run, not negative.
    """
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    # In words of 32 bits, each at its own place: in a mere pair, seed 2**32 + 5 at position 0 would
    # be seed 5 at position 1.
    key = (seed % 2**32, position % 2**32, seed >> 32, position >> 32)
    # Mixes the numbers well: neighbouring positions get unrelated seeds.
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
