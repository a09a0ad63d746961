from __future__ import annotations

import numpy as np

from piip_d2.data.scene_textures import contrasting_color, hue_color, texture


def test_textures_lie_between_0_and_1_and_vary():
    patterns = [texture(np.random.RandomState(seed), 40, 70) for seed in range(20)]
    for pattern in patterns:
        assert pattern.shape == (40, 70)
        assert pattern.min() >= 0.0
        assert pattern.max() <= 1.0
        assert pattern.std() > 0.02


def test_colors_stand_out():
    background, other = (128, 128, 128), (250, 10, 10)
    rng = np.random.RandomState(0)
    colors = [contrasting_color(rng, background, [other]) for _ in range(50)]
    apart = [sum(abs(a - b) for a, b in zip(c, background, strict=True)) for c in colors]
    assert sum(distance >= 130 for distance in apart) >= 48


def test_hues_are_told_apart():
    rng = np.random.RandomState(0)
    red, green, blue = (
        np.mean([hue_color(rng, band, 3) for _ in range(20)], 0) for band in range(3)
    )
    assert red.argmax() in (0, 1)
    assert green[1] > green[0]
    assert blue[2] > blue[1]
