"""Cross-branch feature interaction, PIIP (https://arxiv.org/abs/2406.04330), section 3.2.

Neighbouring branches exchange features in both directions. "Low" is the branch with the smaller
image, so the larger network, "high" the one with the larger image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import torch
from timm.layers import DropPath, trunc_normal_
from torch import Tensor, nn

from piip_d2.layers import ConvFFN, CrossAttention, DeformableCrossAttention, Linear, MSDeformAttn
from piip_d2.layers.linear import is_plain_linear
from piip_d2.modeling.backbone.directions import Exchange, exchanges
from piip_d2.ops import saves_memory

_ATTENTION_KINDS = ("deformable", "regular")


class InteractionStage(nn.Module):
    """The exchanges between branches at one depth.

    Args:
        units: One unit per pair of branches.
        pairs: The two branches (low, high) of every unit, in ascending order; by default the
            neighbours (0, 1), (1, 2), ...

    Raises:
        ValueError: If there are not as many pairs as units.
    """

    def __init__(
        self, units: Sequence[InteractionUnit], pairs: Sequence[tuple[int, int]] | None = None
    ) -> None:
        super().__init__()
        self.pairs = [(low, low + 1) for low in range(len(units))] if pairs is None else list(pairs)
        if len(self.pairs) != len(units):
            raise ValueError(f"{len(units)} units need as many pairs, got {len(self.pairs)}")
        self.units = nn.ModuleList(units)

    @property
    def is_adjacent(self) -> bool:
        """Whether all neighbours exchange features in both directions, and nobody else does."""
        units = [cast(InteractionUnit, unit) for unit in self.units]
        return self.pairs == [(low, low + 1) for low in range(len(units))] and all(
            unit.high_to_low is not None and unit.low_to_high is not None for unit in units
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Updates the maps of all branches.

        The pairs are updated one after the other from the highest resolution down, so that a
        branch in the middle takes news from above along to the branch below.

        Args:
            maps: One (B, H, W, C) per branch, ascending in resolution.

        Returns:
            One map per branch, in the same order and shapes.

        Raises:
            ValueError: If the number of maps does not fit the units.
        """
        count = max((high for _, high in self.pairs), default=0) + 1
        if len(maps) != count:
            raise ValueError(f"{len(self.units)} units join {count} branches, got {len(maps)} maps")
        maps = list(maps)
        for (low, high), unit in zip(reversed(self.pairs), reversed(self.units), strict=True):
            maps[low], maps[high] = unit(maps[low], maps[high])
        return maps


class InteractionUnit(nn.Module):
    """The exchange between two branches.

    Args:
        high_to_low: Lets the low-resolution branch attend to the other; None for not.
        low_to_high: Lets the high-resolution branch attend to the other; None for not.
    """

    def __init__(
        self, high_to_low: CrossBranchAttention | None, low_to_high: CrossBranchAttention | None
    ) -> None:
        super().__init__()
        self.high_to_low = high_to_low
        self.low_to_high = low_to_high

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, H, W, C) and (B, H', W', C') to the same shapes; both see the other's input."""
        new_low = low if self.high_to_low is None else self.high_to_low(low, high)
        new_high = high if self.low_to_high is None else self.low_to_high(high, low)
        return new_low, new_high


class CrossBranchAttention(nn.Module):
    """One direction of an exchange: attention to the other branch, then a ConvFFN.

    Both parts are residuals scaled by vectors that start at zero, so that a new interaction is
    the identity and pretrained branches start undisturbed.

    Args:
        query_dim: Channels of the branch that is updated.
        feat_dim: Channels of the attended map as ``attn`` sees it.
        attn: Attention from (query map, feature map) to a query map.
        feat_proj: Applied to the other branch's map before anything else; None for none.
        with_norm: Whether query, feature and the ConvFFN's input are layer-normed.
        ffn: The ConvFFN on query maps; None for none.
        drop_path_rate: Stochastic depth of the ConvFFN, in [0, 1).
    """

    def __init__(
        self,
        query_dim: int,
        feat_dim: int,
        attn: nn.Module,
        *,
        feat_proj: nn.Module | None = None,
        with_norm: bool = True,
        ffn: nn.Module | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.feat_proj = feat_proj or nn.Identity()
        self.query_norm = _norm(query_dim, with_norm)
        self.feat_norm = _norm(feat_dim, with_norm)
        self.attn = attn
        self.attn_gamma = nn.Parameter(torch.zeros(query_dim))
        self.ffn = ffn
        if ffn is not None:
            self.ffn_norm = _norm(query_dim, with_norm)
            self.ffn_gamma = nn.Parameter(torch.zeros(query_dim))
            self.drop_path = DropPath(drop_path_rate)

    def forward(self, query: Tensor, feature: Tensor) -> Tensor:
        """Updates the query map (B, H, W, C) from the other branch's map (B, H', W', C')."""
        query = query + self._attend(query, feature)
        if self.ffn is not None:
            query = query + self._feed_forward(self.ffn, query)
        return query

    def _attend(self, query: Tensor, feature: Tensor) -> Tensor:
        # A subclass may have a way of its own, without norms and factors.
        if type(self.attn) is DeformableCrossAttention and saves_memory(query):
            takes_in = is_plain_linear(self.feat_proj)
            return self.attn(
                query,
                feature if takes_in else self.feat_proj(feature),
                query_norm=self.query_norm,
                feature_proj=self.feat_proj if takes_in else None,
                feature_norm=self.feat_norm,
                scale=self.attn_gamma,
            )
        feature = self.feat_norm(self.feat_proj(feature))
        return self.attn_gamma * self.attn(self.query_norm(query), feature)

    def _feed_forward(self, ffn: nn.Module, query: Tensor) -> Tensor:
        if type(ffn) is ConvFFN and saves_memory(query):
            return self.drop_path(ffn(query, norm=self.ffn_norm, scale=self.ffn_gamma))
        return self.ffn_gamma * self.drop_path(ffn(self.ffn_norm(query)))


def build_interactions(
    dims: Sequence[Sequence[int]],
    *,
    directions: str = "adjacent",
    attention: str = "deformable",
    num_heads: int = 16,
    num_points: int = 4,
    value_ratio: float = 0.5,
    with_projection: bool = True,
    with_norm: bool = True,
    with_ffn: bool = True,
    ffn_ratio: float = 0.25,
    drop_path_rate: float = 0.4,
) -> list[InteractionStage]:
    """Builds the interactions of a network.

    Args:
        dims: Per interaction the channels of all branches there, lowest resolution first.
        directions: Who attends to whom, see :func:`exchanges`.
        attention: ``"deformable"`` or ``"regular"`` (every position attends to every other).
        num_heads: Heads of the attention.
        num_points: Sampling points per head (deformable attention).
        value_ratio: Width of the value relative to the query (deformable attention).
        with_projection: Whether the other branch's map is first projected to the query's width.
        with_norm: Whether the layer norms are there.
        with_ffn: Whether the ConvFFNs are there.
        ffn_ratio: Hidden width of a ConvFFN relative to its input.
        drop_path_rate: Stochastic depth of the ConvFFNs, the same at every depth.

    Returns:
        One stage per interaction.

    Raises:
        ValueError: If ``attention`` or ``directions`` is unknown or the widths do not fit the
            heads.
    """
    if attention not in _ATTENTION_KINDS:
        raise ValueError(f"attention must be one of {_ATTENTION_KINDS}, got {attention!r}")
    build_direction = functools.partial(
        _build_direction,
        attention=attention,
        num_heads=num_heads,
        num_points=num_points,
        value_ratio=value_ratio,
        with_projection=with_projection,
        with_norm=with_norm,
        with_ffn=with_ffn,
        ffn_ratio=ffn_ratio,
        drop_path_rate=drop_path_rate,
    )
    stages = [
        _build_stage(stage_dims, exchanges(directions, len(stage_dims), number), build_direction)
        for number, stage_dims in enumerate(dims)
    ]
    for stage in stages:
        _init_weights(stage)
    return stages


def _build_stage(
    dims: Sequence[int],
    stage_exchanges: Sequence[Exchange],
    build_direction: Callable[[int, int], CrossBranchAttention],
) -> InteractionStage:
    units = []
    for exchange in stage_exchanges:
        low, high = dims[exchange.low], dims[exchange.high]
        units.append(
            InteractionUnit(
                build_direction(low, high) if exchange.high_to_low else None,
                build_direction(high, low) if exchange.low_to_high else None,
            )
        )
    return InteractionStage(units, [(exchange.low, exchange.high) for exchange in stage_exchanges])


def _build_direction(
    query_dim: int,
    other_dim: int,
    *,
    attention: str,
    num_heads: int,
    num_points: int,
    value_ratio: float,
    with_projection: bool,
    with_norm: bool,
    with_ffn: bool,
    ffn_ratio: float,
    drop_path_rate: float,
) -> CrossBranchAttention:
    feat_dim = query_dim if with_projection else other_dim
    if attention == "deformable":
        deform = MSDeformAttn(
            query_dim,
            num_heads=num_heads,
            num_points=num_points,
            value_ratio=value_ratio,
            kv_dim=feat_dim,
        )
        attn: nn.Module = DeformableCrossAttention(deform)
    else:
        attn = CrossAttention(query_dim, num_heads=num_heads, kv_dim=feat_dim)
    return CrossBranchAttention(
        query_dim,
        feat_dim,
        attn,
        feat_proj=Linear(other_dim, query_dim) if with_projection else None,
        with_norm=with_norm,
        ffn=ConvFFN(query_dim, int(query_dim * ffn_ratio)) if with_ffn else None,
        drop_path_rate=drop_path_rate,
    )


def _norm(dim: int, with_norm: bool) -> nn.Module:
    return nn.LayerNorm(dim, eps=1e-6) if with_norm else nn.Identity()


def _init_weights(stage: InteractionStage) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel() // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # The attention has an initialisation of its own, which the loop has just overwritten.
    for module in stage.modules():
        if isinstance(module, MSDeformAttn):
            module.reset_parameters()
