"""The costs that the FLOPs script in the authors' detection code prints.

The script builds the real detection backbone, hangs a counter on its modules and adds formulas for
attention. Its image is a square. It stops behind the merge: the feature maps' parameters count,
their operations do not; neck and heads are not there. Single branches are counted whole. What it
miscounts is miscounted here too, and only here; ``docs/COSTS.md`` lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from timm.models.convnext import ConvNeXtBlock
from torch import nn

from piip_d2.analysis.closed_forms import (
    Work,
    block_work,
    direction_work,
    padded_cells,
    patch_embed_flops,
)
from piip_d2.analysis.layer_counts import layers_flops, linear_flops, norm_flops
from piip_d2.analysis.report import CostReport, PartCost
from piip_d2.analysis.structure import (
    MapSize,
    SizedNetwork,
    describe_branch,
    has_class_row,
    num_params,
)
from piip_d2.layers import WindowAttention
from piip_d2.modeling.backbone import (
    BranchMerge,
    FeatureMaps,
    InteractionStage,
    PIIPNetwork,
    SingleConvBranchMerge,
    UnmergedBranch,
    ViTBranch,
)
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit_block import ViTBlock

FUSED_MLP_MODES = ("counted", "uncounted")
_TEMPORAL_ROWS = 8
# Side of the map that the classes for two and four branches take for sampling: 224 // 16.
_FIXED_SIDE = 14
# Channels of the released four-branch networks, smallest image first: the fourth is built as the
# third again, though all configurations state Tiny.
_RELEASED_FOUR_WIDTHS = [1024, 768, 384, 384]
_TINY_WIDTH = 192
_MAX_BRANCHES = 4
_NOTES = (
    "Counted as the script in the authors' detection code does, up to the merge; one square image.",
    "Parameters of the feature maps are counted, their operations are not; no neck, no heads.",
)
_SINGLE_NOTES = (
    "Counted as the script in the authors' detection code does: one square image, no neck, "
    "no heads.",
)
_UNCOUNTED_MLP_NOTE = "MLPs with tanh GELU cost nothing here, as with the script's fused kernel."


def count_released_script(
    network: PIIPNetwork,
    resolutions: Sequence[int] | None = None,
    *,
    fused_mlp: str = "counted",
) -> CostReport:
    """Counts a network's costs as the authors' script does.

    Args:
        network: The network; only its structure is read, so it may be on ``meta``.
        resolutions: Image sides in pixels, largest first; None for the branches' nominal sizes.
        fused_mlp: ``"uncounted"`` leaves out MLPs with tanh GELU: these stand for a fused kernel
            that the script's counter does not see where the kernel is installed. ``"counted"``
            is what the script gives without that kernel.

    Returns:
        The costs.

    Raises:
        ValueError: If the released code cannot build such a network, ``fused_mlp`` is unknown or
            the resolutions do not fit.
    """
    if fused_mlp not in FUSED_MLP_MODES:
        raise ValueError(f"fused_mlp must be one of {FUSED_MLP_MODES}, got {fused_mlp!r}")
    sized = SizedNetwork(network, resolutions)
    count_mlp = fused_mlp == "counted"
    order = reversed(range(len(sized.branches)))
    parts = [_branch(sized, number, count_mlp=count_mlp) for number in order]
    _check_released(network)
    parts += [_interaction(sized, number) for number in range(len(network.interactions))]
    for name, merge, maps in sized.merges():
        parts += _merge(name, merge, maps)
    parts.append(_feature_maps(sized))
    side = sized.resolutions[0]
    notes = (*(_NOTES if len(sized.branches) > 1 else _SINGLE_NOTES),)
    if not count_mlp:
        notes = (*notes, _UNCOUNTED_MLP_NOTE)
    return CostReport("released_script", sized.resolutions, (side, side), tuple(parts), notes)


def _check_released(network: PIIPNetwork) -> None:
    """Refuses networks that the script could not have counted, whatever its formulas would give.

    Wider than what weights can be exported for, where norms, patches and stems decide too.
    """
    count = len(network.branches)
    reason = None
    if count > _MAX_BRANCHES:
        reason = f"the released networks have at most {_MAX_BRANCHES} branches, this one {count}"
    elif count > 1 and len(network.interactions) == 0:
        reason = "there are no released pyramids without interactions"
    elif not all(cast(InteractionStage, x).is_adjacent for x in network.interactions):
        reason = 'in the released networks neighbours exchange both ways (directions="adjacent")'
    elif not _has_released_merges(network):
        reason = (
            "the released pyramids merge all branches to the channels of the lowest resolution, by "
            'merge="conv", or by "single_conv" with out_interactions, and the single networks are '
            "without a merge"
        )
    if reason is not None:
        raise ValueError(
            f'the authors\' script cannot count this network: {reason}; use convention="actual"'
        )


def _has_released_merges(network: PIIPNetwork) -> bool:
    merges = [*network.stage_merges.values(), network.merge]
    if len(network.branches) == 1:
        return all(isinstance(merge, UnmergedBranch) for merge in merges)
    kind = SingleConvBranchMerge if network.stage_merges else BranchMerge
    widths = [maps[0].channels for *_, maps in SizedNetwork(network).merges()]
    return all(
        type(merge) is kind
        and len(merge.merged) == len(network.branches)
        and merge.out_dim == width
        for merge, width in zip(merges, widths, strict=True)
    )


def _branch(sized: SizedNetwork, number: int, *, count_mlp: bool) -> PartCost:
    branch, side = sized.branches[number], sized.sides[number]
    if type(branch) not in _BRANCHES:
        raise ValueError(
            f"the authors' script knows no branch like {type(branch).__name__}; "
            'use convention="actual"'
        )
    extra_params, work = _BRANCHES[type(branch)](branch, side)
    if not count_mlp:
        work = Work(work.layers - _fused_mlp_flops(branch, side), work.attention)
    if _is_second_small(sized, number):
        # Its formula for attention takes the width from the configuration, which says Tiny.
        work = Work(work.layers, work.attention * _TINY_WIDTH // branch.channels_after(0))
    return PartCost(
        f"branches.{number}",
        num_params(branch) + extra_params,
        work.total,
        work.attention,
        describe_branch(branch, side),
    )


def _is_second_small(sized: SizedNetwork, number: int) -> bool:
    """Tells whether a branch is the fourth of the released class, built as the third again."""
    widths = [branch.channels_after(0) for branch in sized.branches]
    return number == 3 and widths == _RELEASED_FOUR_WIDTHS


def _vit(branch: ViTBranch, side: int) -> tuple[int, Work]:
    return (branch.embed_dim if has_class_row(branch) else 0), _transformer(branch, side)


def _uniperceiver(branch: UniPerceiverBranch, side: int) -> tuple[int, Work]:
    size = MapSize(branch.embed_dim, side // branch.stride)
    norm = norm_flops(branch.embed_norm, size.elements)
    unused_rows = _TEMPORAL_ROWS - branch.temporal_embed.shape[1]
    return unused_rows * branch.embed_dim, _transformer(branch, side) + Work(norm)


def _beit(branch: BEiTBranch, side: int) -> tuple[int, Work]:
    # The projection to queries, keys and values is a function there, which no module counts; that
    # behind the attention runs before the filled-up cells are cut off.
    return 0, _transformer(branch, side, count_qkv=False, fill_proj=True)


def _transformer(
    branch: ViTBranch | UniPerceiverBranch | BEiTBranch,
    side: int,
    *,
    count_qkv: bool = True,
    fill_proj: bool = False,
) -> Work:
    size = MapSize(branch.embed_dim, side // branch.stride)
    work = Work(patch_embed_flops(branch.patch_embed, side))
    for block in branch.blocks:
        attn = cast(WindowAttention, cast(ViTBlock, block).attn)
        filled = padded_cells(attn, size.side)
        qkv_cells = size.cells if attn.window_padding == "after_qkv" else filled
        work += block_work(
            block,
            size,
            qkv_cells=qkv_cells if count_qkv else 0,
            proj_cells=filled if fill_proj else size.cells,
        )
    return work


def _convnext(branch: ConvNeXtBranch, side: int) -> tuple[int, Work]:
    total, size = layers_flops(branch.stem, MapSize(3, side))
    for block in branch.block_list:
        if isinstance(block, ConvNeXtBlock):
            total += layers_flops(block.conv_dw, size)[0]
            total += linear_flops(block.mlp.fc1, size.cells)
            total += linear_flops(block.mlp.fc2, size.cells)
        else:
            flops, size = layers_flops(block, size)
            total += flops
    # The final norm is there, though nothing runs through it.
    return 2 * size.channels, Work(total)


def _fused_mlp_flops(branch: nn.Module, side: int) -> int:
    if not isinstance(branch, ViTBranch):
        return 0
    cells = (side // branch.stride) ** 2
    return sum(
        linear_flops(mlp.fc1, cells) + linear_flops(mlp.fc2, cells)
        for mlp in (cast(ViTBlock, block).mlp for block in branch.blocks)
        if isinstance(mlp.act, nn.GELU) and mlp.act.approximate == "tanh"
    )


def _interaction(sized: SizedNetwork, number: int) -> PartCost:
    fixed = _FIXED_SIDE**2 if len(sized.branches) in (2, 4) else None
    works = (direction_work(direction, fixed) for direction in sized.directions(number))
    work = sum(works, Work())
    params = num_params(sized.network.interactions[number])
    return PartCost(f"interactions.{number}", params, work.total, work.attention)


def _merge(name: str, merge: nn.Module, maps: Sequence[MapSize]) -> list[PartCost]:
    if isinstance(merge, UnmergedBranch):
        return []
    parts = []
    projections = cast(nn.ModuleList, merge.projections)
    for place, (number, layers) in enumerate(
        zip(cast(list[int], merge.merged), projections, strict=True)
    ):
        flops = layers_flops(layers, maps[number])[0]
        parts.append(PartCost(f"{name}.projections.{place}", num_params(layers), flops))
    return [*parts, PartCost(f"{name}.weights", num_params(cast(nn.Module, merge.weights)))]


def _feature_maps(sized: SizedNetwork) -> PartCost:
    feature_maps = sized.network.feature_maps
    params = num_params(feature_maps)
    flops = 0
    if len(sized.branches) == 1:
        flops = _single_branch_maps(sized)
    elif len(sized.branches) == 3 and isinstance(feature_maps, FeatureMaps):
        # The class for three branches makes the layers of the finest map in any case.
        width = cast(int, sized.network.merge.out_dim)
        params += 0 if "res2" in feature_maps.maps else 8 * width**2 + 4 * width
    return PartCost("feature_maps", params, flops)


def _single_branch_maps(sized: SizedNetwork) -> int:
    sizes = [
        sized.maps_at(int(index) if index else None)[0]
        for index in (*sized.network.stage_merges, None)
    ]
    maps = list(sized.network.feature_maps.maps.values())
    sizes = sizes * len(maps) if len(sizes) == 1 else sizes
    return sum(layers_flops(layers, size)[0] for layers, size in zip(maps, sizes, strict=True))


_BRANCHES: dict[type[nn.Module], Callable[[Any, int], tuple[int, Work]]] = {
    ViTBranch: _vit,
    UniPerceiverBranch: _uniperceiver,
    BEiTBranch: _beit,
    ConvNeXtBranch: _convnext,
}
