"""Tables of pre-trained networks in other sizes, against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, RectBivariateSpline
from torch import Tensor

from piip_d2.checkpoint.resizing import (
    fit_pos_embed,
    resize_patch_weight,
    resize_relative_table,
    spline_matrix,
)

Array = NDArray[np.float64]


def bicubic(source: Array, side: int) -> Array:
    """Cubic convolution with a = -0.75, pixel centres at halves, borders repeated."""

    def kernel(distance: float) -> float:
        t, a = abs(distance), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    known = source.shape[0]
    matrix = np.zeros((side, known))
    for row in range(side):
        place = (row + 0.5) * known / side - 0.5
        first = int(np.floor(place)) - 1
        for neighbour in range(first, first + 4):
            matrix[row, min(max(neighbour, 0), known - 1)] += kernel(place - neighbour)
    return matrix @ source @ matrix.T


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("side", [4, 6, 5])
def test_position_table(prefix: int, side: int) -> None:
    table = torch.randn(1, prefix + 25, 3)
    found = fit_pos_embed(table, prefix, side**2).unflatten(1, (side, side))
    grid = table[:, prefix:].unflatten(1, (5, 5)).double().numpy()
    expected = np.stack([bicubic(grid[0, :, :, c], side) for c in range(3)], axis=-1)
    torch.testing.assert_close(found[0], torch.from_numpy(expected).float())


def test_class_row_beside_registers_without_rows() -> None:
    table = torch.randn(1, 26, 3)
    # DINOv2's registers have no places, so no rows, but its class token has one.
    torch.testing.assert_close(fit_pos_embed(table, 5, 25), table[:, 1:])


def test_position_table_of_any_shape_where_nothing_changes() -> None:
    table = torch.randn(1, 15, 3)
    torch.testing.assert_close(fit_pos_embed(table, 1, 15), table)


@pytest.mark.parametrize(
    ("rows", "cells", "message"),
    [(23, 16, "got 23 rows"), (25, 15, "of 15 rows is not of a square")],
)
def test_position_table_of_no_square_grid(rows: int, cells: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_pos_embed(torch.zeros(1, rows, 2), 1, cells)


@pytest.mark.parametrize("side", [16, 12, 14])
def test_patch_weight_without_change_of_magnitude(side: int) -> None:
    weight = torch.randn(2, 3, 14, 14)
    found = resize_patch_weight(weight, side)
    for out in range(2):
        for channel in range(3):
            expected = torch.from_numpy(bicubic(weight[out, channel].double().numpy(), side))
            torch.testing.assert_close(found[out, channel], expected.float())
    assert resize_patch_weight(torch.ones(1, 3, 14, 14), side).sum() == pytest.approx(3 * side**2)


def test_sixteen_bit_tables_are_resized_in_more() -> None:
    weight = torch.randn(4, 3, 14, 14).bfloat16()
    found = resize_patch_weight(weight, 16)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, resize_patch_weight(weight.float(), 16).bfloat16())


def test_spline_equals_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    known = np.sort(generator.uniform(-3, 3, 9))
    wanted = np.linspace(known[0], known[-1], 41)
    values = generator.normal(size=9)
    matrix = spline_matrix(torch.from_numpy(known), torch.from_numpy(wanted))
    np.testing.assert_allclose(matrix.numpy() @ values, CubicSpline(known, values)(wanted))


def test_spline_goes_through_cubics() -> None:
    known = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    wanted = torch.linspace(-2, 3, 11, dtype=torch.float64)

    def cubic(place: Tensor) -> Tensor:
        return place**3 - 2 * place**2 + 0.5

    torch.testing.assert_close(spline_matrix(known, wanted) @ cubic(known), cubic(wanted))


@pytest.mark.parametrize(
    # Windows of the table and of the branch; BEiTv2 at 224 in windows of 28 cells comes first.
    ("source", "target"),
    [(14, 28), (7, 14), (8, 14), (14, 20), (14, 10), (3, 7)],
)
@pytest.mark.parametrize("class_rows", [0, 3])
def test_relative_table_equals_that_of_scipy(source: int, target: int, class_rows: int) -> None:
    side, wanted_side = 2 * source - 1, 2 * target - 1
    table = torch.randn(side**2 + class_rows, 2)
    found = resize_relative_table(table, target)
    places = _geometric_places(source - 1, target - 1)
    wanted = np.arange(1 - target, target)
    for head in range(2):
        values = table[: side**2, head].reshape(side, side).double().numpy()
        # interp2d(kind="cubic") of older SciPy, on a grid.
        expected = RectBivariateSpline(places, places, values)(wanted, wanted)
        got = found[:, head].reshape(wanted_side, wanted_side).numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5)


def _geometric_places(number: int, reach: int) -> Array:
    """Places 0, ±1, ±(1 + q), … up to a border; q is halved down to, as the authors of BEiT do."""
    bounds = [1.01, 1.5]
    while bounds[1] - bounds[0] > 1e-6:
        growth = sum(bounds) / 2
        bounds[int((growth**number - 1) / (growth - 1) > reach)] = growth
    outwards = np.cumsum(growth ** np.arange(number))
    assert number != 13 or reach != 27 or abs(outwards[-1] - 27) < 1e-3
    return np.concatenate([-outwards[::-1], [0.0], outwards])


def test_places_of_a_relative_table_are_those_that_the_growth_gives() -> None:
    # From windows of 3 to ones of 4 cells: 1 + q = 3 asks for more than 1.5, the largest growth.
    table = torch.zeros(25, 1)
    table[12] = 1.0
    found = resize_relative_table(table, 4).reshape(7, 7)
    assert found[3, 3] == 1.0
    # Places 0, ±1 and ±2.5 are known; -3 and 3 lie beyond and get what is at ±2.5: nothing.
    torch.testing.assert_close(found[[2, 4, 0, 6], 3], torch.zeros(4))
    assert found[1, 3] != 0


def test_relative_table_of_the_same_window_is_kept() -> None:
    table = torch.randn(27**2 + 3, 2)
    assert torch.equal(resize_relative_table(table, 14), table[:-3])


@pytest.mark.parametrize(
    ("rows", "message"), [(100, r"\(2 w - 1\)\^2 rows.*got 100"), (9, "at least 3 cells")]
)
def test_relative_table_of_no_window(rows: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_relative_table(torch.zeros(rows, 2), 14)
