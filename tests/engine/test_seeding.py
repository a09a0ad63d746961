"""Seeds."""

from __future__ import annotations

import random

import numpy as np
import torch

from piip_d2.engine.seeding import resolve_seed, seed_everything


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_equal_positions_draw_equally() -> None:
    seed_everything(3, 10, 0)
    first = _draws()
    _draws()
    seed_everything(3, 10, 0)
    assert _draws() == first


def test_all_parts_of_a_position_matter() -> None:
    positions = [(3, 10, 0), (3, 10, 1), (3, 11, 0), (4, 10, 0), (10, 3, 0)]
    # Ones that differ by zeros alone, such as the model and the first batch of a run.
    positions += [(3,), (3, 0), (3, 0, 0, 0), (3, 10)]
    draws = []
    for position in positions:
        seed_everything(*position)
        draws.append(_draws())
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(positions)


def test_given_seed_stays_and_missing_one_is_drawn() -> None:
    assert resolve_seed(7) == 7
    assert resolve_seed(0) == 0
    assert 0 <= resolve_seed(-1) < 2**31
    assert 0 <= resolve_seed(None) < 2**31
