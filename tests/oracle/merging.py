"""How the maps of all branches become one, and one or four become the feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from tests.oracle.named_layers import (
    Shapes,
    Weights,
    convolve,
    double,
    group_norm,
    halve,
    layer_norm,
    layer_shapes,
    resize,
)


def double_merge_shapes(widths: Sequence[int]) -> Shapes:
    """Shapes of the merge by two convolutions per branch."""
    target = widths[0]
    shapes: Shapes = {}
    for number, width in enumerate(widths, start=1):
        name = f"merge_branch{number}"
        for layer, channels in (("0", width), ("3", target)):
            shapes |= layer_shapes(f"{name}.{layer}", target, channels, 3, 3, with_bias=False)
        shapes |= layer_shapes(f"{name}.1", target) | layer_shapes(f"{name}.4", target)
        shapes[f"w{number}"] = ()
    return shapes


def double_merge(weights: Weights, maps: Sequence[Tensor]) -> Tensor:
    changed = []
    for number, features in enumerate(maps, start=1):
        name = f"merge_branch{number}"
        for convolution, norm in (("0", "1"), ("3", "4")):
            features = convolve(weights, f"{name}.{convolution}", features, padding=1)
            features = group_norm(weights, f"{name}.{norm}", features).relu()
        changed.append(features)
    return _weighted_sum(weights, "w", changed)


def single_merge_shapes(widths: Sequence[int], interaction: int | None) -> Shapes:
    """Shapes of the merge by one convolution, after an interaction or at the end."""
    name, scalar = _single_merge_names(interaction)
    target = widths[0]
    shapes = layer_shapes(f"{name}1.0", target)
    for number, width in enumerate(widths[1:], start=2):
        shapes |= layer_shapes(f"{name}{number}.0", target, width, 3, 3, with_bias=False)
        shapes |= layer_shapes(f"{name}{number}.1", target)
    return shapes | {f"{scalar}{number}": () for number in range(1, len(widths) + 1)}


def single_merge(weights: Weights, maps: Sequence[Tensor], interaction: int | None) -> Tensor:
    name, scalar = _single_merge_names(interaction)
    first, *others = maps
    changed = [group_norm(weights, f"{name}1.0", first).relu()]
    for number, features in enumerate(others, start=2):
        features = convolve(weights, f"{name}{number}.0", features, padding=1)
        changed.append(group_norm(weights, f"{name}{number}.1", features).relu())
    return _weighted_sum(weights, scalar, changed)


def finest_shapes(name: str, width: int) -> Shapes:
    """Shapes of what makes a map four times as fine."""
    shapes = layer_shapes(f"{name}.1", width)
    for layer in ("0", "3"):
        shapes |= layer_shapes(f"{name}.{layer}", width, width, 2, 2)
    return shapes


def make_finest(weights: Weights, name: str, merged: Tensor, *, by_group: bool) -> Tensor:
    """Makes a map four times as fine, with a norm over groups of channels or over all."""
    finer = double(weights, f"{name}.0", merged)
    norm = group_norm if by_group else layer_norm
    return double(weights, f"{name}.3", F.gelu(norm(weights, f"{name}.1", finer)))


def finer_shapes(name: str, width: int) -> Shapes:
    """Shapes of what makes a map twice as fine."""
    return layer_shapes(f"{name}.0", width, width, 2, 2)


def feature_maps(
    weights: Weights, maps: Sequence[Tensor], name: str, *, by_group: bool, with_finest: bool = True
) -> list[Tensor]:
    """Makes maps of strides 4, 8, 16 and 32 from four of stride 16, which may be the same."""
    for_finest, for_finer, kept, for_coarsest = maps
    outputs = [double(weights, f"{name}2.0", for_finer), kept, halve(for_coarsest)]
    if with_finest:
        outputs.insert(0, make_finest(weights, f"{name}1", for_finest, by_group=by_group))
    return outputs


def _single_merge_names(interaction: int | None) -> tuple[str, str]:
    if interaction is None:
        return "merge_branch", "w"
    return f"intermediate_merging_{interaction}_branch", f"intermediate_merging_{interaction}_w"


def _weighted_sum(weights: Weights, scalar: str, maps: Sequence[Tensor]) -> Tensor:
    """Adds maps, all brought to the size of the last."""
    height, width = maps[-1].shape[1:3]
    total = weights[f"{scalar}{len(maps)}"] * maps[-1]
    for number, features in enumerate(maps[:-1], start=1):
        total = total + weights[f"{scalar}{number}"] * resize(features, height, width)
    return total
