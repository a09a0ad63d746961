"""Closed forms of transformer branches and interactions that two conventions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from piip_d2.analysis.layer_counts import layers_flops, linear_flops, norm_flops
from piip_d2.analysis.structure import Direction, MapSize
from piip_d2.layers import ConvFFN, CrossAttention, DeformableCrossAttention, WindowAttention
from piip_d2.modeling.backbone import PatchEmbed
from piip_d2.modeling.backbone.vit_block import ViTBlock

# The reference's formula for sampling has this number of points built in.
_POINTS = 4


@dataclass(frozen=True)
class Work:
    """Multiply-adds of layers, and of the cores of attention.

    Args:
        layers: Those of layers.
        attention: Those of attention cores.
    """

    layers: int = 0
    attention: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.layers + other.layers, self.attention + other.attention)

    @property
    def total(self) -> int:
        """Both together."""
        return self.layers + self.attention


def patch_embed_flops(patch_embed: nn.Module, image_side: int) -> int:
    """Counts what cutting an image into patches costs.

    Args:
        patch_embed: What does it.
        image_side: Side of the image in pixels.

    Returns:
        Multiply-adds.

    Raises:
        ValueError: If it is not done by one convolution.
    """
    if not isinstance(patch_embed, PatchEmbed):
        raise ValueError(
            f"the reference embeds patches with one convolution, this branch with "
            f'{type(patch_embed).__name__}; its costs can be counted with convention="actual"'
        )
    return layers_flops(patch_embed.proj, MapSize(3, image_side))[0]


def padded_cells(attn: WindowAttention, side: int) -> int:
    """Cells of a map that is filled up to whole windows; as it is without windows."""
    window = attn.window_size or 1
    return (-(-side // window) * window) ** 2


def block_work(block: nn.Module, size: MapSize, *, qkv_cells: int, proj_cells: int) -> Work:
    """Work of a transformer block.

    Args:
        block: The block.
        size: Its map.
        qkv_cells: Cells that the projection to queries, keys and values is counted for; with 0
            for a projection that is not counted.
        proj_cells: Cells that the projection behind the attention is counted for.

    Returns:
        The work; attention is counted on the map as it is, however windows fill it up.
    """
    block = cast(ViTBlock, block)
    attn = cast(WindowAttention, block.attn)
    layers = (
        norm_flops(block.norm1, size.elements)
        + linear_flops(attn.qkv, qkv_cells)
        + norm_flops(attn.q_norm, size.channels * qkv_cells)
        + norm_flops(attn.k_norm, size.channels * qkv_cells)
        + linear_flops(attn.proj, proj_cells)
        + norm_flops(block.norm2, size.elements)
        + linear_flops(block.mlp.fc1, size.cells)
        + linear_flops(block.mlp.fc2, size.cells)
    )
    seen = size.cells if attn.window_size is None else attn.window_size**2
    return Work(layers, 2 * size.elements * seen)


def direction_work(direction: Direction, sampling_cells: int | None = None) -> Work:
    """Work of one direction of an interaction.

    Args:
        direction: The direction and its maps.
        sampling_cells: Queries for which deformable sampling is counted; None for those there are.

    Returns:
        The work.
    """
    module, query, feature = direction.module, direction.query, direction.feature
    layers, feature_width = 0, feature.channels
    if isinstance(module.feat_proj, nn.Linear):
        layers += linear_flops(module.feat_proj, feature.cells)
        feature_width = module.feat_proj.out_features
    layers += norm_flops(module.query_norm, query.elements)
    layers += norm_flops(module.feat_norm, feature_width * feature.cells)
    if module.ffn is not None:
        layers += norm_flops(module.ffn_norm, query.elements)
        layers += _ffn_flops(cast(ConvFFN, module.ffn), query)
    attention = _ATTENTIONS[type(module.attn)](module.attn, query, feature, sampling_cells)
    return Work(layers) + attention


def _ffn_flops(ffn: ConvFFN, size: MapSize) -> int:
    hidden = MapSize(ffn.fc1.out_features, size.side)
    return (
        linear_flops(ffn.fc1, size.cells)
        + layers_flops(ffn.dwconv, hidden)[0]
        + linear_flops(ffn.fc2, size.cells)
    )


def _deformable(
    attn: DeformableCrossAttention, query: MapSize, feature: MapSize, sampling_cells: int | None
) -> Work:
    deform = attn.deform
    layers = linear_flops(deform.value_proj, feature.cells) + sum(
        linear_flops(layer, query.cells)
        for layer in (deform.sampling_offsets, deform.attention_weights, deform.output_proj)
    )
    # The formula takes the width of the queries, though values may be narrower.
    cells = query.cells if sampling_cells is None else sampling_cells
    return Work(layers, 5 * cells * _POINTS * query.channels)


def _regular(
    attn: CrossAttention, query: MapSize, feature: MapSize, sampling_cells: int | None
) -> Work:
    layers = (
        linear_flops(attn.q_proj, query.cells)
        + linear_flops(attn.k_proj, feature.cells)
        + linear_flops(attn.v_proj, feature.cells)
        + linear_flops(attn.proj, query.cells)
    )
    return Work(layers, 2 * query.elements * feature.cells)


_ATTENTIONS: dict[type[nn.Module], Callable[[Any, MapSize, MapSize, int | None], Work]] = {
    DeformableCrossAttention: _deformable,
    CrossAttention: _regular,
}
