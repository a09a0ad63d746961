"""Brings the tables of a pre-trained network to the sizes that a branch has."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.modeling.backbone.pos_embed import resize_pos_embed

# BEiT's tables end with rows for class token to cell, cell to class token, class token to itself.
_CLASS_TOKEN_ROWS = 3
# The bounds within which the growth of the steps from cell to cell is looked for.
_LEAST_GROWTH, _GREATEST_GROWTH = 1.01, 1.5
_GROWTH_TOLERANCE = 1e-6
# A cubic without a knot at the second and the last but one place needs as many.
_LEAST_SIDE = 4


def fit_pos_embed(table: Tensor, num_prefix_tokens: int, num_cells: int) -> Tensor:
    """Takes the rows of cells from a position table and stretches them over another square grid.

    Args:
        table: (1, n, C); n is a square number, or that and as many rows in front of it as there
            are prefix tokens, or one.
        num_prefix_tokens: Class and register tokens of the network that the table comes from.
        num_cells: Rows of the wanted table, a square number where they are not as many already.

    Returns:
        (1, num_cells, C).

    Raises:
        ValueError: If either number of rows belongs to no square grid.
    """
    rows = table.shape[1]
    prefixes = (0, num_prefix_tokens, 1)
    for prefix in prefixes:
        if rows - prefix == num_cells:
            return table[:, prefix:]
    side = math.isqrt(num_cells)
    if side**2 != num_cells:
        raise ValueError(f"a position table of {num_cells} rows is not of a square grid")
    for prefix in prefixes:
        if rows > prefix and math.isqrt(rows - prefix) ** 2 == rows - prefix:
            resized = resize_pos_embed(table[:, prefix:], side, side)
            return resized.flatten(1, 2).to(table.dtype)
    raise ValueError(
        f"a position table must have a row for each cell of a square grid and, at most, "
        f"{max(prefixes)} in front of them, got {rows} rows"
    )


def resize_patch_weight(weight: Tensor, side: int) -> Tensor:
    """Stretches the filters of a patch embedding bicubically.

    The sum over a patch grows with the number of its pixels: as in the reference implementation,
    nothing is done about that.

    Args:
        weight: (C, 3, p, p).
        side: Wanted side of a patch in pixels.

    Returns:
        (C, 3, side, side).
    """
    if weight.shape[-2:] == (side, side):
        return weight
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
    resized = F.interpolate(exact, size=(side, side), mode="bicubic", align_corners=False)
    return resized.to(weight.dtype)


def resize_relative_table(table: Tensor, window_size: int) -> Tensor:
    """Stretches a table of biases for relative positions to another window.

    Near cells matter most, so the places that the table is known at are taken to lie the farther
    apart the farther they are from the centre: steps of 1, q, q^2, and so on, with q such that they
    reach the wanted border. A cubic spline gives the values between them. BEiT
    (https://arxiv.org/abs/2106.08254), its code for other image sizes.

    Args:
        table: ((2 w - 1)^2, heads), with or without the three last rows of a class token.
        window_size: Wanted side of the window in cells.

    Returns:
        ((2 window_size - 1)^2, heads).

    Raises:
        ValueError: If the number of rows belongs to no window, or to one that is too small.
    """
    table = _without_class_token(table)
    source, target = math.isqrt(table.shape[0]), 2 * window_size - 1
    if source == target:
        return table
    if source < _LEAST_SIDE:
        raise ValueError(
            f"a table of relative positions must be of windows of at least 3 cells to be resized, "
            f"got {table.shape[0]} rows"
        )
    reach = target // 2
    steps = _growth(source // 2, reach) ** torch.arange(source // 2, dtype=torch.float64)
    places = torch.cumsum(steps, 0)
    known = torch.cat([-places.flip(0), torch.zeros(1, dtype=torch.float64), places])
    wanted = torch.arange(-reach, reach + 1, dtype=torch.float64)
    # Beyond the border, what is there.
    spline = spline_matrix(known, wanted.clamp(known[0], known[-1]))
    grid = table.to(torch.float64).unflatten(0, (source, source))
    resized = torch.einsum("yi,xj,ijh->yxh", spline, spline, grid)
    return resized.flatten(0, 1).to(table.dtype)


def spline_matrix(known: Tensor, wanted: Tensor) -> Tensor:
    """Computes what a cubic spline through some values makes of each of them elsewhere.

    The spline has no knot at the second and the last but one place ("not a knot"), as those of
    SciPy and MATLAB.

    Args:
        known: (n,) ascending places with values, n at least 4, in 64 bits.
        wanted: (m,) places between the first and the last of them.

    Returns:
        (m, n): the matrix from the values at the known places to those at the wanted ones.
    """
    gaps = known.diff()
    curvature = _curvature_matrix(gaps)
    right = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    left, gap = right - 1, gaps[right - 1]
    weight_right = (wanted - known[left]) / gap
    weight_left = 1 - weight_right
    values = torch.eye(len(known), dtype=known.dtype)
    # The line between both neighbours, and the cubics that bend it without moving its ends.
    line = weight_left[:, None] * values[left] + weight_right[:, None] * values[right]
    bend_left = (weight_left**3 - weight_left) * gap**2 / 6
    bend_right = (weight_right**3 - weight_right) * gap**2 / 6
    return line + bend_left[:, None] * curvature[left] + bend_right[:, None] * curvature[right]


def _curvature_matrix(gaps: Tensor) -> Tensor:
    """The matrix (n, n) from values to the second derivatives of the spline at the same places."""
    number = len(gaps) + 1
    conditions = torch.zeros(number, number, dtype=gaps.dtype)
    slopes = torch.zeros(number, number, dtype=gaps.dtype)
    for place in range(1, number - 1):
        before, after = gaps[place - 1], gaps[place]
        # The slopes of the cubics on both sides agree.
        conditions[place, place - 1 : place + 2] = torch.stack(
            [before, 2 * (before + after), after]
        )
        slopes[place, place - 1 : place + 2] = 6 * torch.stack(
            [1 / before, -1 / before - 1 / after, 1 / after]
        )
    for row, place in ((0, 1), (number - 1, number - 2)):
        # The third derivative does not jump at this place.
        before, after = gaps[place - 1], gaps[place]
        conditions[row, place - 1 : place + 2] = torch.stack([after, -before - after, before])
    return torch.linalg.solve(conditions, slopes)


def _growth(num_steps: int, reach: int) -> float:
    """Finds the q for which 1 + q + q^2 + … of a number of terms is what is to be reached."""
    low, high = _LEAST_GROWTH, _GREATEST_GROWTH
    growth = low
    while high - low > _GROWTH_TOLERANCE:
        growth = (low + high) / 2
        if sum(growth**step for step in range(num_steps)) > reach:
            high = growth
        else:
            low = growth
    return growth


def _without_class_token(table: Tensor) -> Tensor:
    for rows in (table.shape[0], table.shape[0] - _CLASS_TOKEN_ROWS):
        side = math.isqrt(max(rows, 0))
        if side**2 == rows and side % 2 == 1:
            return table[:rows]
    raise ValueError(
        f"a table of relative positions must have (2 w - 1)^2 rows for a window of w cells, and "
        f"{_CLASS_TOKEN_ROWS} more where it knows a class token, got {table.shape[0]}"
    )
