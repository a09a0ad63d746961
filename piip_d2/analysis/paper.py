"""The costs that the paper and the authors' README state for vision transformers.

They were not counted on the detectors: the authors' script builds the network for classification
with the same branches and interactions. So there are position tables as large as the image,
windows are not filled up before the projection to queries, keys and values (but for branches of the
reference's InternViT class), branches are merged by a linear layer each, and the merged map is
averaged and classified into 1000 classes. Feature maps, neck and heads are not there.
PIIP (https://arxiv.org/abs/2406.04330), tables 1 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import nn

from piip_d2.analysis.closed_forms import (
    Work,
    block_work,
    direction_work,
    padded_cells,
    patch_embed_flops,
)
from piip_d2.analysis.layer_counts import norm_flops
from piip_d2.analysis.report import CostReport, PartCost
from piip_d2.analysis.structure import (
    MapSize,
    SizedNetwork,
    describe_branch,
    has_class_row,
    num_params,
)
from piip_d2.layers import WindowAttention
from piip_d2.modeling.backbone import Branch, PIIPNetwork, ViTBranch
from piip_d2.modeling.backbone.vit_block import ViTBlock

_NUM_CLASSES = 1000
_NOTES = (
    "Counted as the paper does: the network for classification, one square image.",
    "Feature maps, neck and heads are not counted, nor the 3x3 convolutions of the real merge.",
)


def count_paper(network: PIIPNetwork, resolutions: Sequence[int] | None = None) -> CostReport:
    """Counts a network's costs as the paper does.

    Args:
        network: The network; only its structure is read, so it may be on ``meta``.
        resolutions: Image sides in pixels, largest first; None for the branches' nominal sizes.

    Returns:
        The costs.

    Raises:
        ValueError: If a branch is of a family for which the paper states no costs of this kind,
            or the resolutions do not fit.
    """
    sized = SizedNetwork(network, resolutions)
    parts = [_branch(sized, number) for number in reversed(range(len(sized.branches)))]
    parts += [_interaction(sized, number) for number in range(len(network.interactions))]
    parts += _merge(sized)
    side = sized.resolutions[0]
    return CostReport("paper", sized.resolutions, (side, side), tuple(parts), _NOTES)


def _branch(sized: SizedNetwork, number: int) -> PartCost:
    branch, side = sized.branches[number], sized.sides[number]
    if type(branch) not in _BRANCHES:
        raise ValueError(
            f"the paper counts plain vision transformers in this way, not {type(branch).__name__}; "
            'use convention="released_script" or "actual"'
        )
    params, work = _BRANCHES[type(branch)](branch, side)
    return PartCost(
        f"branches.{number}", params, work.total, work.attention, describe_branch(branch, side)
    )


def _vit(branch: ViTBranch, side: int) -> tuple[int, Work]:
    size = MapSize(branch.embed_dim, side // branch.stride)
    rows = size.cells + (1 if has_class_row(branch) else 0)
    params = num_params(branch) - branch.pos_embed.numel() + rows * branch.embed_dim
    work = Work(patch_embed_flops(branch.patch_embed, side))
    for block in branch.blocks:
        attn = cast(WindowAttention, cast(ViTBlock, block).attn)
        filled = padded_cells(attn, size.side) if has_class_row(branch) else size.cells
        work += block_work(block, size, qkv_cells=filled, proj_cells=size.cells)
    return params, work


def _interaction(sized: SizedNetwork, number: int) -> PartCost:
    work = sum((direction_work(direction) for direction in sized.directions(number)), Work())
    params = num_params(sized.network.interactions[number])
    return PartCost(f"interactions.{number}", params, work.total, work.attention)


def _merge(sized: SizedNetwork) -> list[PartCost]:
    maps = sized.maps_at(None)
    if len(maps) == 1:
        return _single_branch_head(sized.branches[0], maps[0])
    width = cast(int, sized.network.merge.out_dim)
    merged = cast(list[int], sized.network.merge.merged)
    # The script's order is that of the networks' sizes, also where larger networks see larger
    # images. Its first branch is not projected, its last one gives the grid.
    first, *_, last = sorted(range(len(maps)), key=lambda number: -maps[number].channels)
    parts = []
    for place, number in enumerate(merged):
        size = maps[number]
        if number == first and size.channels == width:
            params, flops = 2 * width, 2 * size.elements
        else:
            params = 2 * size.channels + size.channels * width + 3 * width
            flops = 2 * size.elements + size.elements * width + 2 * width * size.cells
        parts.append(PartCost(f"merge.projections.{place}", params, flops))
    # A scale per branch; then a norm and the average over the finest map.
    parts.append(PartCost("merge.weights", len(merged)))
    return [*parts, *_classifier(2 * width, 2 * width * maps[last].cells, width)]


def _single_branch_head(branch: Branch, size: MapSize) -> list[PartCost]:
    # The final norm of the classification network is of the blocks' kind.
    norm = cast(ViTBlock, cast(ViTBranch, branch).blocks[0]).norm1
    return _classifier(num_params(norm), norm_flops(norm, size.elements), size.channels)


def _classifier(norm_params: int, norm_work: int, width: int) -> list[PartCost]:
    params = norm_params + (width + 1) * _NUM_CLASSES
    description = f"norm, average and {_NUM_CLASSES} classes; in no detector"
    flops = norm_work + width * _NUM_CLASSES
    return [PartCost("classifier", params, flops, description=description)]


_BRANCHES: dict[type[nn.Module], Callable[[Any, int], tuple[int, Work]]] = {ViTBranch: _vit}
