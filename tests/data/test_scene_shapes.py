from __future__ import annotations

import numpy as np
import pytest

from piip_d2.data.scene_shapes import SHAPE_NAMES, cosine_and_sine, shape_distance


@pytest.mark.parametrize("name", SHAPE_NAMES)
@pytest.mark.parametrize("proportion", [0.0, 0.99])
def test_a_shape_fills_part_of_its_circle(name: str, proportion: float):
    axis = np.arange(-60, 60) + 0.5
    u, v = np.meshgrid(axis, axis)
    inside = shape_distance(name, u, v, 50.0, proportion) <= 0.0
    circle = np.sqrt(u * u + v * v) <= 50.5
    assert not (inside & ~circle).any()
    assert 0.2 * circle.sum() < inside.sum()
    # It reaches the circle somewhere: sizes are what they are called.
    assert (inside & (np.sqrt(u * u + v * v) > 47.0)).any()


def test_a_ring_has_a_hole():
    hole = shape_distance("ring", np.zeros((1, 1)), np.zeros((1, 1)), 20.0, 0.5)
    assert hole[0, 0] > 0.0


def test_right_angles_are_exact():
    assert cosine_and_sine(90.0) == (0.0, 1.0)
    assert cosine_and_sine(60.0)[0] == 0.5


def test_unknown_shape():
    with pytest.raises(ValueError, match="must be one of .*'disc'.*, got 'blob'"):
        shape_distance("blob", np.zeros((1, 1)), np.zeros((1, 1)), 1.0, 0.0)
