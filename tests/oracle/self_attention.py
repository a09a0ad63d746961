"""Attention within windows of a map, as the released vision transformers have it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    features: Tensor,
    make_qkv: Callable[[Tensor], Tensor],
    *,
    num_heads: int,
    window: int | None,
    pads_features: bool,
    bias: Tensor | None = None,
) -> Tensor:
    """Lets the cells of each window attend to each other.

    Args:
        features: (B, H, W, C).
        make_qkv: Turns features into queries, keys and values, (B, H, W, 3 * C).
        num_heads: Number of heads.
        window: Side of the windows; without one, the whole map is one.
        pads_features: Whether zeros that fill the last windows are added to the features, or to
            the queries, keys and values.
        bias: Added to the logits, (M, cells, cells).

    Returns:
        (B, H, W, C).
    """
    height, width = features.shape[1:3]
    lines, columns = (window, window) if window else (height, width)
    margin = (0, 0, 0, -width % columns, 0, -height % lines)
    qkv = make_qkv(F.pad(features, margin)) if pads_features else F.pad(make_qkv(features), margin)
    bands = [
        torch.cat([_attend_all(cut, num_heads, bias) for cut in band.split(columns, dim=2)], dim=2)
        for band in qkv.split(lines, dim=1)
    ]
    return torch.cat(bands, dim=1)[:, :height, :width]


def relative_position_index(window: int) -> Tensor:
    """Row of BEiT's table for each pair of a window's cells: line distance, then column."""
    cells = [(line, column) for line in range(window) for column in range(window)]
    num_steps = 2 * window - 1
    rows = [
        [
            (line - other_line + window - 1) * num_steps + column - other_column + window - 1
            for other_line, other_column in cells
        ]
        for line, column in cells
    ]
    return torch.tensor(rows)


def _attend_all(qkv: Tensor, num_heads: int, bias: Tensor | None) -> Tensor:
    """Lets all cells attend to all: (B, h, w, 3 * C) to (B, h, w, C)."""
    by_head = qkv.flatten(1, 2).unflatten(-1, (3, num_heads, -1))
    query, key, value = (part.transpose(1, 2) for part in by_head.unbind(dim=2))
    logits = query @ key.transpose(-2, -1) / key.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias
    mixed = (logits.softmax(dim=-1) @ value).transpose(1, 2)
    return mixed.flatten(2).unflatten(1, qkv.shape[1:3])
