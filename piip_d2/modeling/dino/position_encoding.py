"""Sine encodings of cells and boxes, https://arxiv.org/abs/2005.12872 and 2201.12329."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_EPSILON = 1e-6
_BOX_TEMPERATURE = 10000.0


class SinePositionEncoding(nn.Module):
    """Encodes where in its image a cell of a map is, half of the channels for y, half for x.

    Args:
        embed_dim: Channels of the encoding, a multiple of 4.
        temperature: Ratio of the longest wave to the shortest.
        offset: Added to the number of a row or column, which counts from 1.

    Raises:
        ValueError: If ``embed_dim`` is no multiple of 4.
    """

    def __init__(self, embed_dim: int, temperature: float = 20.0, offset: float = 0.0) -> None:
        super().__init__()
        if embed_dim % 4:
            raise ValueError(f"embed_dim ({embed_dim}) must be a multiple of 4")
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.offset = offset

    def forward(self, padding_mask: Tensor) -> Tensor:
        """Maps (B, H, W), True where a cell is padding, to (B, H, W, C)."""
        covered = (~padding_mask).float()
        axes = []
        for axis in (1, 2):
            position = covered.cumsum(axis)
            last = position.narrow(axis, -1, 1)
            position = (position + self.offset) / (last + _EPSILON)
            axes.append(_waves(position, self.embed_dim // 2, self.temperature))
        return torch.cat(axes, dim=-1)


def encode_boxes(boxes: Tensor, embed_dim: int) -> Tensor:
    """Encodes boxes (..., 4), as centre x, centre y, width, height, to (..., 2C).

    The halves of C for the four numbers follow each other as centre y, centre x, width, height.
    """
    x, y, width, height = boxes.unbind(-1)
    ordered = torch.stack([y, x, width, height], dim=-1)
    return _waves(ordered, embed_dim // 2, _BOX_TEMPERATURE).flatten(-2)


def _waves(x: Tensor, channels: int, temperature: float) -> Tensor:
    """Sines and cosines of numbers (...) in [0, 1] in turn, (..., channels)."""
    exponents = torch.arange(0, channels, 2, device=x.device, dtype=x.dtype) / channels
    angles = (x * (2.0 * math.pi))[..., None] / temperature**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
