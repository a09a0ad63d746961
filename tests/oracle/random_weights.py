"""Random weights of a size at which every part of a network matters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.oracle.named_layers import Shapes
from tests.oracle.self_attention import relative_position_index

_INDEX = "relative_position_index"
_SCALES = ("gamma", "layer_scale")
_TABLES = ("pos_embed", "bias_table")


def random_weights(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Draws a state dict in float64, with the index buffers that belong to it."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith(_INDEX):
            weights[name] = relative_position_index(math.isqrt(shape[0]))
            continue
        mean, spread = _distribution(name, shape)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        weights[name] = mean + spread * noise
    return weights


def _distribution(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if any(part in name for part in _SCALES):
        return 0.5, 0.1
    if any(part in name for part in _TABLES):
        return 0.0, 0.5
    if name.endswith("sampling_offsets.bias"):
        # Far enough for some of the points to leave the map.
        return 0.0, 2.0
    if len(shape) < 2:
        return (0.0, 0.1) if name.endswith("bias") else (1.0, 0.1)
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))
