"""What the classes of the reference can express, of all that our networks can be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from torch import nn

from piip_d2.checkpoint.reference_config import BASELINES
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.feature_maps import STRIDES, FeatureMaps
from piip_d2.modeling.backbone.interaction import InteractionStage, InteractionUnit
from piip_d2.modeling.backbone.merge import BranchMerge, SingleConvBranchMerge, UnmergedBranch
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.patch_embed import PatchEmbed
from piip_d2.modeling.backbone.transformer_branch import TransformerBranch
from piip_d2.modeling.backbone.vit_block import LayerScale, ViTBlock

logger = logging.getLogger(__name__)

_CONVNEXT = "ConvNextHFWrapper"
_MAX_BRANCHES = 4
_PATCH_SIZE = 16
_ALL_MAPS = tuple(STRIDES)
_DINO_MAPS = _ALL_MAPS[1:]
# What a class has beside layer norms, exact GELU and padding in front of the projection.
_RMS_NORM_CLASSES = ("InternViT6B",)
_QK_NORM_CLASSES = ("InternViT6B",)
_TANH_CLASSES = ("InternViT6B", "vit_models")
_LATE_PADDING_CLASSES = ("vit_models",)
_UNSCALED_CLASSES = ("BEiT",)
_NORM_EPS = {"UnifiedBertEncoder": 1e-5}
_USUAL_NORM_EPS = 1e-6


def check_expressible(network: PIIPNetwork, families: Sequence[str]) -> None:
    """Checks that the reference has a class for a network.

    Args:
        network: The network.
        families: The reference's class of each of its branches, lowest resolution first.

    Raises:
        ValueError: If it has none.
    """
    for module, family in zip(network.branches, families, strict=True):
        branch = cast(Branch, module)
        _refuse_unless(
            isinstance(branch, TransformerBranch) or family == _CONVNEXT,
            f"the reference has no branches of the kind {type(branch).__name__}",
        )
        if isinstance(branch, TransformerBranch):
            _check_transformer(branch, family)
    if len(families) == 1:
        _check_single(network, families[0])
    else:
        _check_pyramid(network, families)
    _check_strides(network)


def _refuse_unless(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(f"{sentence}, so the authors' code cannot build this network")


def _check_transformer(branch: TransformerBranch, family: str) -> None:
    """Looks at one block: all are made with the same choices, but for their windows."""
    name = f"the branch at {branch.img_size} pixels"
    _refuse_unless(
        type(branch.patch_embed) is PatchEmbed,
        f"the reference has patch embeddings of one convolution alone, but {name} has a "
        f"{type(branch.patch_embed).__name__}",
    )
    block = cast(ViTBlock, branch.blocks[0])
    norm, attn = cast(nn.LayerNorm, block.norm1), block.attn
    is_rms = isinstance(norm, nn.RMSNorm)
    eps = _NORM_EPS.get(family, _USUAL_NORM_EPS)
    for choice, is_taken, classes in (
        ('norm="rms"', is_rms, _RMS_NORM_CLASSES),
        ("qk_norm=True", getattr(attn, "q_norm", None) is not None, _QK_NORM_CLASSES),
        (
            'act="gelu_tanh"',
            getattr(block.mlp.act, "approximate", "none") == "tanh",
            _TANH_CLASSES,
        ),
        (
            'window_padding="after_qkv"',
            getattr(attn, "window_padding", "") == "after_qkv",
            _LATE_PADDING_CLASSES,
        ),
        ("init_values=None", not isinstance(block.ls1, LayerScale), _UNSCALED_CLASSES),
        (f"norm_eps={norm.eps}", norm.eps != eps, ()),
    ):
        _refuse_unless(
            not is_taken or family in classes,
            f"{name} is a {family} to the reference, which has no {choice}",
        )
    _refuse_unless(
        family != "UnifiedBertEncoder" or "qkv.bias" in attn.state_dict(),
        f"{name} is a {family} to the reference, which has no qkv_bias=False",
    )


def _check_single(network: PIIPNetwork, family: str) -> None:
    _refuse_unless(
        family in BASELINES and isinstance(network.merge, UnmergedBranch),
        f"of single networks the reference has {', '.join(BASELINES)} without a merge "
        f'(merge="none"), but this is a {family} with a {type(network.merge).__name__}',
    )
    names = tuple(network.feature_maps.strides)
    _refuse_unless(
        names == _ALL_MAPS,
        f"the reference's single networks give the maps {_ALL_MAPS}, but this one gives {names}",
    )
    if family == _CONVNEXT:
        stops = [*network.interaction_block_indexes[0]]
        taken = [stops[int(number)] for number in network.stage_merges]
        branch = cast(Branch, network.branches[0])
        last = branch.num_blocks - 1
        strides = [branch.stride_after(block) for block in range(branch.num_blocks)]
        ends = [block for block in range(last) if strides[block + 1] != strides[block]]
        _refuse_unless(
            taken == ends,
            f"the reference takes the maps of a ConvNeXt behind its blocks {[*ends, last]}, but "
            f"here they are taken behind {[*taken, last]}",
        )
        return
    _refuse_unless(
        isinstance(network.feature_maps, FeatureMaps) and not _has_group_norm(network),
        "the reference's single transformers make all maps of the last block with layer norms "
        '(feature_norm="layer", no out_interactions)',
    )


def _check_pyramid(network: PIIPNetwork, families: Sequence[str]) -> None:
    count = len(families)
    _refuse_unless(
        count <= _MAX_BRANCHES,
        f"the reference has networks of at most {_MAX_BRANCHES} branches, but this one has {count}",
    )
    _check_exchanges(network)
    _check_merges(network)
    widths = [cast(Branch, branch).channels_after(0) for branch in network.branches]
    strides = [cast(Branch, branch).stride_after(0) for branch in network.branches]
    if count != 3:
        _refuse_unless(
            _CONVNEXT not in families,
            "the reference has ConvNeXt branches in networks of three branches alone, but this "
            f"one has {count}",
        )
        _refuse_unless(
            set(strides) == {_PATCH_SIZE},
            f"all branches must have patches of {_PATCH_SIZE} pixels in the reference's networks "
            f"of {count} branches, but these have {strides}",
        )
        _refuse_unless(
            widths == sorted(widths, reverse=True),
            f"channels must not grow with the resolution in the reference's networks of {count} "
            f"branches, but these have {widths}",
        )
    if count == _MAX_BRANCHES and _shapes(network.branches[3]) != _shapes(network.branches[2]):
        logger.warning(
            "The authors' code builds the fourth branch like the third, which here has other "
            "sizes: its class must be corrected before it can load these weights."
        )
    # From this branch it takes the type of all numbers, by a weight that Uni-Perceiver lacks.
    typical = -1 if count == 3 else 0
    _refuse_unless(
        families[typical] != "UnifiedBertEncoder",
        f"a Uni-Perceiver cannot have the {'highest' if count == 3 else 'lowest'} resolution in "
        f"the reference's networks of {count} branches",
    )
    _refuse_unless(
        "res2" not in network.feature_maps.strides or _has_group_norm(network, default=True),
        'the reference\'s pyramids make maps with group norms (feature_norm="group")',
    )


def _shapes(branch: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in branch.state_dict().items()}


def _check_exchanges(network: PIIPNetwork) -> None:
    _refuse_unless(
        len(network.interactions) > 0, "the reference has no pyramids without interactions"
    )
    for module in network.interactions:
        stage = cast(InteractionStage, module)
        units = [cast(InteractionUnit, unit) for unit in stage.units]
        _refuse_unless(
            stage.is_adjacent,
            'the reference has names for directions="adjacent" alone, in which neighbours '
            "exchange features in both directions",
        )
        ways = [way for unit in units for way in (unit.high_to_low, unit.low_to_high) if way]
        _refuse_unless(
            all(way.ffn is not None for way in ways),
            "the reference has no interactions without ConvFFNs (with_ffn=False)",
        )
    for module, stops in zip(network.branches, network.interaction_block_indexes, strict=True):
        branch = cast(Branch, module)
        _refuse_unless(
            stops[-1] == branch.num_blocks - 1,
            "the reference runs no blocks behind the last interaction, which follows number "
            f"{stops[-1]} of the {branch.num_blocks} blocks at {branch.img_size} pixels",
        )


def _check_merges(network: PIIPNetwork) -> None:
    count, by_stage = len(network.branches), len(network.stage_merges) > 0
    kind = SingleConvBranchMerge if by_stage else BranchMerge
    stops = list(zip(*network.interaction_block_indexes, strict=True))
    last = [cast(Branch, branch).num_blocks - 1 for branch in network.branches]
    merges = [(stops[int(key)], merge) for key, merge in network.stage_merges.items()]
    for blocks, merge in [*merges, (last, network.merge)]:
        _refuse_unless(
            type(merge) is kind,
            'the reference merges by merge="conv", or by "single_conv" where out_interactions '
            f"names three interactions, but this network has a {type(merge).__name__}"
            + (" behind some of its interactions" if by_stage else ""),
        )
        _refuse_unless(
            len(merge.projections) == count,  # type: ignore[arg-type]
            "the reference has names for networks alone that merge all branches",
        )
        width = cast(Branch, network.branches[0]).channels_after(blocks[0])
        _refuse_unless(
            bool(merge.out_dim == width),
            "the reference merges to the channels of the lowest resolution "
            f"({width}, merge_dim=None), but this network to {merge.out_dim}",
        )
    names = tuple(network.feature_maps.strides)
    possible = [_ALL_MAPS] if by_stage else [_ALL_MAPS, _DINO_MAPS]
    _refuse_unless(
        names in possible,
        f"the reference gives the maps {' or '.join(map(str, possible))}, but this network {names}",
    )
    _refuse_unless(
        count == 3 or not by_stage,
        "the reference takes maps behind several interactions (out_interactions) in networks of "
        f"three branches alone, but this one has {count}",
    )


def _check_strides(network: PIIPNetwork) -> None:
    branch, stops = cast(Branch, network.branches[-1]), network.interaction_block_indexes[-1]
    blocks = [stops[int(number)] for number in network.stage_merges]
    strides = [branch.stride_after(block) for block in [*blocks, branch.num_blocks - 1]]
    _refuse_unless(
        set(strides) == {_PATCH_SIZE} or strides == list(STRIDES.values()),
        "the reference makes maps of one with stride 16, or takes those of a ConvNeXt with the "
        f"strides {list(STRIDES.values())}, but here they have {strides}",
    )


def _has_group_norm(network: PIIPNetwork, *, default: bool = False) -> bool:
    """Tells by the finest map, the only one with a norm, if it is made by convolutions."""
    parts = list(network.feature_maps.maps["res2"].children())
    return any(isinstance(part, nn.GroupNorm) for part in parts) if parts else default
