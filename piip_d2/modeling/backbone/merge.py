"""Branch merging, PIIP (https://arxiv.org/abs/2406.04330), section 3.3."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

_NUM_GROUPS = 32


class _Merge(nn.Module):
    """Projects the map of every branch, resizes it to the finest grid, and adds them up."""

    def __init__(self, projections: Sequence[nn.Module], out_dim: int) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.projections = nn.ModuleList(projections)
        # 0-dimensional, since the recipe's weight decay spares vectors but not these.
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in projections)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Merges the maps of all branches.

        Args:
            maps: One (B, C, H, W) per branch, ascending in resolution.

        Returns:
            (B, out_dim, H, W) on the grid of the last map.

        Raises:
            ValueError: If the number of maps is not that of the branches.
        """
        count = len(self.projections)
        if len(maps) != count:
            raise ValueError(f"the merge was built for {count} branches, got {len(maps)}")
        grid = maps[-1].shape[-2:]
        terms = [
            weight * _resize(projection(x), grid)
            for x, projection, weight in zip(maps, self.projections, self.weights, strict=True)
        ]
        return functools.reduce(torch.add, terms)


class BranchMerge(_Merge):
    """Projects every branch with two 3x3 convolutions and adds them up on the finest grid.

    This is the form of all released detection models.

    Args:
        dims: Channels of the branches, lowest resolution first.
        out_dim: Channels of the sum; those of the first branch if None.

    Raises:
        ValueError: If the channels do not fall into 32 groups.
    """

    def __init__(self, dims: Sequence[int], out_dim: int | None = None) -> None:
        width = dims[0] if out_dim is None else out_dim
        _check_groups(width)
        super().__init__([_conv_projection(dim, width) for dim in dims], width)


class LightBranchMerge(_Merge):
    """Projects every branch with one linear layer and adds them up on the finest grid.

    With this form the published costs of the detectors were counted.

    Args:
        dims: Channels of the branches, lowest resolution first.
        out_dim: Channels of the sum; those of the first branch if None. The first branch is
            not projected where it has them already.

    Raises:
        ValueError: If the channels do not fall into 32 groups.
    """

    def __init__(self, dims: Sequence[int], out_dim: int | None = None) -> None:
        width = dims[0] if out_dim is None else out_dim
        for dim in (*dims, width):
            _check_groups(dim)
        projections = [
            _linear_projection(dim, width, keep=index == 0 and dim == width)
            for index, dim in enumerate(dims)
        ]
        super().__init__(projections, width)


def _resize(x: Tensor, grid: Sequence[int]) -> Tensor:
    if x.shape[-2:] == grid:
        return x
    # Interpolated in float32 whatever the branch runs in, as in the networks PIIP released.
    resized = F.interpolate(
        x.to(torch.promote_types(x.dtype, torch.float32)),
        size=tuple(grid),
        mode="bilinear",
        align_corners=False,
    )
    return resized.to(x.dtype)


def _conv_projection(dim: int, out_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (dim, out_dim):
        conv = nn.Conv2d(width, out_dim, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=(2.0 / (9 * out_dim)) ** 0.5)
        layers += [conv, nn.GroupNorm(_NUM_GROUPS, out_dim), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _linear_projection(dim: int, out_dim: int, *, keep: bool) -> nn.Sequential:
    if keep:
        return nn.Sequential(nn.GroupNorm(_NUM_GROUPS, dim))
    linear = nn.Conv2d(dim, out_dim, 1)
    trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.get_parameter("bias"))
    return nn.Sequential(nn.GroupNorm(_NUM_GROUPS, dim), linear, nn.GroupNorm(_NUM_GROUPS, out_dim))


def _check_groups(dim: int) -> None:
    if dim % _NUM_GROUPS:
        raise ValueError(
            f"the merged channels must be a multiple of {_NUM_GROUPS} (group norm), got {dim}"
        )
