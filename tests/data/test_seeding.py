from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from piip_d2.data.seeding import sample_randomness


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_key_decides_about_all_generators():
    with sample_randomness(1, 2):
        first = _draw()
    _draw()
    with sample_randomness(1, 2):
        assert _draw() == first
    with sample_randomness(1, 3):
        other = _draw()
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("other", [(5, 1), (5, 2**32), (2**32, 5)])
def test_large_numbers_share_no_randomness_with_small_ones(other: tuple[int, int]):
    with sample_randomness(2**32 + 5, 0):
        first = _draw()
    with sample_randomness(*other):
        assert all(a != b for a, b in zip(_draw(), first, strict=True))


def test_the_generators_go_on_undisturbed():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = _draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with pytest.raises(KeyError), sample_randomness(0, 0):
        _draw()
        raise KeyError
    assert _draw() == expected
