"""Branch merging, PIIP (https://arxiv.org/abs/2406.04330), section 3.3."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from piip_d2.layers.frugal_sequential import FrugalSequential

_NUM_GROUPS = 32


class _Merge(nn.Module, ABC):
    """Projects the maps of branches, resizes them to the finest grid, and adds them up.

    Args:
        dims: Channels of the branches, lowest resolution first.
        out_dim: Channels of the sum; those of the first branch if None.
        merged: Numbers of the branches that are added up; all if None.

    Raises:
        ValueError: If the channels do not fall into 32 groups, or a branch is not there.
    """

    def __init__(
        self,
        dims: Sequence[int],
        out_dim: int | None = None,
        merged: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.out_dim = dims[0] if out_dim is None else out_dim
        self.num_branches = len(dims)
        self.merged = _merged_branches(merged, len(dims))
        _check_groups(self.out_dim)
        self.projections = nn.ModuleList(
            self._projection(dims[branch], self.out_dim, is_first=branch == 0)
            for branch in self.merged
        )
        # 0-dimensional, since the recipe's weight decay spares vectors but not these.
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in self.merged)

    @staticmethod
    @abstractmethod
    def _projection(dim: int, out_dim: int, *, is_first: bool) -> nn.Module:
        """Makes what brings a map of ``dim`` channels to ``out_dim``."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Merges the maps of all branches.

        Args:
            maps: One (B, C, H, W) per branch, ascending in resolution.

        Returns:
            (B, out_dim, H, W) on the grid of the last map, whether that is merged or not.

        Raises:
            ValueError: If the number of maps is not that of the branches.
        """
        if len(maps) != self.num_branches:
            raise ValueError(
                f"the merge was built for {self.num_branches} branches, got {len(maps)}"
            )
        grid = maps[-1].shape[-2:]
        terms = [
            weight * _resize(projection(maps[branch]), grid)
            for branch, projection, weight in zip(
                self.merged, self.projections, self.weights, strict=True
            )
        ]
        return functools.reduce(torch.add, terms)


class BranchMerge(_Merge):
    """Projects every branch with two 3x3 convolutions and adds them up on the finest grid.

    This is the form of all released detection models of vision transformers.

    Args:
        dims: Channels of the branches, lowest resolution first.
        out_dim: Channels of the sum; those of the first branch if None.
        merged: Numbers of the branches that are added up; all if None.

    Raises:
        ValueError: If the channels do not fall into 32 groups, or a branch is not there.
    """

    @staticmethod
    def _projection(dim: int, out_dim: int, *, is_first: bool) -> nn.Module:
        return FrugalSequential(*_conv_norm_act(dim, out_dim), *_conv_norm_act(out_dim, out_dim))


class SingleConvBranchMerge(_Merge):
    """Projects every branch but the first with one 3x3 convolution.

    The form of the released models with convolutional branches. The first branch is only
    normalised where it has the channels of the sum already.

    Args:
        dims: See :class:`BranchMerge`.
        out_dim: See there.
        merged: See there.

    Raises:
        ValueError: If the channels do not fall into 32 groups, or a branch is not there.
    """

    @staticmethod
    def _projection(dim: int, out_dim: int, *, is_first: bool) -> nn.Module:
        layers = _conv_norm_act(dim, out_dim)
        return FrugalSequential(*(layers[1:] if is_first and dim == out_dim else layers))


class LightBranchMerge(_Merge):
    """Projects every branch with one linear layer and adds them up on the finest grid.

    With this form the published costs of the detectors were counted. The first branch is not
    projected where it has the channels of the sum already.

    Args:
        dims: See :class:`BranchMerge`.
        out_dim: See there.
        merged: See there.

    Raises:
        ValueError: If the channels do not fall into 32 groups, or a branch is not there.
    """

    @staticmethod
    def _projection(dim: int, out_dim: int, *, is_first: bool) -> nn.Module:
        _check_groups(dim)
        norm = nn.GroupNorm(_NUM_GROUPS, dim)
        if is_first and dim == out_dim:
            return FrugalSequential(norm)
        linear = nn.Conv2d(dim, out_dim, 1)
        trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.get_parameter("bias"))
        return FrugalSequential(norm, linear, nn.GroupNorm(_NUM_GROUPS, out_dim))


class UnmergedBranch(nn.Module):
    """Passes on the map of the only branch, for networks that are no pyramid.

    Args:
        dims: Channels of that branch.
        out_dim: None, or the same number.
        merged: None, or that branch.

    Raises:
        ValueError: If there are more branches, or the channels are to change.
    """

    def __init__(
        self,
        dims: Sequence[int],
        out_dim: int | None = None,
        merged: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(dims) != 1 or out_dim not in (None, dims[0]):
            raise ValueError(
                'merge="none" leaves the map of one single branch as it is; got branches of '
                f"{list(dims)} channels and a width of {out_dim}: choose another merge"
            )
        self.out_dim = dims[0]
        self.merged = _merged_branches(merged, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns the only map (B, C, H, W) of ``maps``."""
        (x,) = maps
        return x


def _merged_branches(merged: Sequence[int] | None, num_branches: int) -> list[int]:
    if merged is None:
        return list(range(num_branches))
    if not merged or len(set(merged)) < len(merged) or not set(merged) <= set(range(num_branches)):
        raise ValueError(
            f"the merged branches must be different numbers from 0 to {num_branches - 1}, at "
            f"least one; got {list(merged)}"
        )
    return sorted(merged)


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


def _conv_norm_act(dim: int, out_dim: int) -> list[nn.Module]:
    conv = nn.Conv2d(dim, out_dim, 3, padding=1, bias=False)
    nn.init.normal_(conv.weight, std=(2.0 / (9 * out_dim)) ** 0.5)
    return [conv, nn.GroupNorm(_NUM_GROUPS, out_dim), nn.ReLU(inplace=True)]


def _check_groups(dim: int) -> None:
    if dim % _NUM_GROUPS:
        raise ValueError(
            f"the merged channels must be a multiple of {_NUM_GROUPS} (group norm), got {dim}"
        )
