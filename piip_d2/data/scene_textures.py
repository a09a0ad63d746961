"""Textures and colours of rendered scenes, from additions and multiplications alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .scene_shapes import cosine_and_sine

__all__ = ["contrasting_color", "hue_color", "random_color", "texture"]

FloatArray = npt.NDArray[np.float64]
Color = tuple[int, int, int]


def texture(rng: np.random.RandomState, height: int, width: int) -> FloatArray:
    """Returns a random pattern in [0, 1] of shape (height, width): clouds, stripes or checks."""
    # Cells of 64, 23 and 7 pixels have no common multiple in an image: nothing repeats.
    clouds = (
        4.0 * _value_noise(rng, height, width, 64)
        + 2.0 * _value_noise(rng, height, width, 23)
        + 1.0 * _value_noise(rng, height, width, 7)
    ) / 7.0
    # Drawn whatever the kind, so that all textures use the same share of the random stream.
    kind = _integer(rng, 0, 4)
    period = float(_integer(rng, 9, 34))
    cosine, sine = cosine_and_sine(float(_integer(rng, 0, 180)))
    if kind < 2:
        return clouds
    y = np.arange(height, dtype=np.float64)[:, None]
    x = np.arange(width, dtype=np.float64)[None, :]
    # The clouds bend the lines, so that no edge of the pattern is straight like a shape's.
    across = (x * cosine + y * sine) / period + 1.5 * clouds
    waves = _triangle_wave(across)
    if kind == 3:
        waves = 0.5 * (waves + _triangle_wave((y * cosine - x * sine) / period + 1.5 * clouds))
    return 0.5 * (clouds + waves)


def random_color(rng: np.random.RandomState) -> Color:
    """Returns an RGB colour that is neither nearly black nor nearly white."""
    red, green, blue = (int(value) for value in rng.randint(20, 236, size=3, dtype=np.int64))
    return red, green, blue


def hue_color(rng: np.random.RandomState, band: int, num_bands: int) -> Color:
    """Returns a saturated colour out of one of ``num_bands`` ranges of hue."""
    hue = (band + 0.2 + 0.6 * float(rng.random_sample())) / num_bands * 6.0
    bright = _integer(rng, 170, 236)
    dark = _integer(rng, 20, 70)
    channels = [min(max(abs((hue + shift) % 6.0 - 3.0) - 1.0, 0.0), 1.0) for shift in (0, 4, 2)]
    red, green, blue = (int(dark + (bright - dark) * channel) for channel in channels)
    return red, green, blue


def contrasting_color(
    rng: np.random.RandomState, background: Color, others: list[Color], tries: int = 30
) -> Color:
    """Returns a random colour well apart from the background and somewhat from other objects."""
    color = random_color(rng)
    for _ in range(tries):
        if _difference(color, background) >= 130 and all(
            _difference(color, other) >= 60 for other in others
        ):
            break
        color = random_color(rng)
    return color


def _value_noise(rng: np.random.RandomState, height: int, width: int, cell: int) -> FloatArray:
    """Returns smooth noise in [0, 1): random numbers on a grid, blended by a cubic ramp."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = rng.random_sample((rows, columns))
    row, row_weight = _cells(height, cell)
    column, column_weight = _cells(width, cell)
    across = grid[:, column] + (grid[:, column + 1] - grid[:, column]) * column_weight
    return across[row] + (across[row + 1] - across[row]) * row_weight[:, None]


def _cells(length: int, cell: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    position = np.arange(length, dtype=np.int64)
    fraction = (position % cell) / float(cell)
    # The cubic ramp has no slope at grid points: no grid shows in the clouds.
    return position // cell, fraction * fraction * (3.0 - 2.0 * fraction)


def _triangle_wave(phase: FloatArray) -> FloatArray:
    return np.abs(2.0 * (phase - np.floor(phase)) - 1.0)


def _integer(rng: np.random.RandomState, low: int, high: int) -> int:
    return int(rng.randint(low, high, dtype=np.int64))


def _difference(first: Color, second: Color) -> int:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))
