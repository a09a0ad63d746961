"""Builds our networks from configurations of the reference implementation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from piip_d2.checkpoint.official_branches import build_official_branch
from piip_d2.checkpoint.reference_arguments import (
    ALLOWED_ALONE,
    ALLOWED_IN_PYRAMIDS,
    check_arguments,
)
from piip_d2.checkpoint.reference_config import (
    block_indexes,
    branch_cfgs,
    check_interaction_counts,
    read_backbone_cfg,
)
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.build import build_network
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.feature_maps import STRIDES
from piip_d2.modeling.backbone.network import PIIPNetwork

logger = logging.getLogger(__name__)

_FOUR_BRANCH_MODES = ("corrected", "as_released")
_ATTENTION_KINDS = {"deform": "deformable", "normal": "regular"}
_PATCH_SIZE = 16
# What the reference's classes assume where a configuration says nothing.
_PIIP_DEFAULTS: dict[str, Any] = {
    "n_points": 4,
    "deform_num_heads": 6,
    "with_cffn": False,
    "cffn_ratio": 0.25,
    "deform_ratio": 1.0,
    "is_dino": False,
    "interaction_proj": True,
    "interact_attn_type": "normal",
    "interaction_drop_path_rate": 0.3,
    "norm_layer": None,
    "with_simple_fpn": True,
    "out_interaction_indexes": (),
}


def build_from_official(
    backbone_cfg: Mapping[str, Any],
    *,
    four_branch: str = "corrected",
    convnext_sizes: Mapping[str, Any] | None = None,
) -> PIIPNetwork:
    """Builds the network that a backbone dict of the reference implementation describes.

    Args:
        backbone_cfg: The dict: ``type`` is ``PIIPTwoBranch``, ``PIIPThreeBranch`` or
            ``PIIPFourBranch``, or ``vit_models``, ``InternViT6B`` or ``ConvNextHFWrapper`` for one
            network alone; the rest are that constructor's arguments. The branches may stand apart,
            as ``{"backbone": ..., "branches": ...}``, and lists as runs under ``<name>_rle``.
            Arguments that leave the network as it is are not read; those that would make another
            than can be built here are refused.
        four_branch: ``"corrected"`` builds the fourth branch from its own arguments,
            ``"as_released"`` from the third branch's, as the released class does.
        convnext_sizes: For other ConvNeXt branches than the usual ones: dicts of ``hidden_sizes``
            and ``depths`` by what the branch's ``pretrained`` says.

    Returns:
        The network with random weights. Its ``forward`` takes images that are already normalised
        and padded.

    Raises:
        ValueError: If the configuration is none of the reference's, or its numbers do not fit
            together.
    """
    if four_branch not in _FOUR_BRANCH_MODES:
        raise ValueError(f"four_branch must be one of {_FOUR_BRANCH_MODES}, got {four_branch!r}")
    cfg = read_backbone_cfg(backbone_cfg)
    if not cfg["type"].startswith("PIIP"):
        return _build_alone(cfg, convnext_sizes)
    return _build_pyramid({**_PIIP_DEFAULTS, **cfg}, four_branch, convnext_sizes)


def _build_pyramid(
    options: Mapping[str, Any], four_branch: str, convnext_sizes: Mapping[str, Any] | None
) -> PIIPNetwork:
    check_arguments(options, ALLOWED_IN_PYRAMIDS)
    if options["interact_attn_type"] not in _ATTENTION_KINDS:
        raise ValueError(
            f"interact_attn_type must be one of {sorted(_ATTENTION_KINDS)}, got "
            f"{options['interact_attn_type']!r}"
        )
    cfgs = branch_cfgs(options)
    indexes = [block_indexes(cfg, f"branch{number}") for number, cfg in enumerate(cfgs, start=1)]
    check_interaction_counts(indexes)
    if len(cfgs) == 4 and four_branch == "as_released":
        # The network of the branch alone is the third's; what the pyramid reads is its own.
        cfgs[3] = {**cfgs[2], "real_size": cfgs[3]["real_size"]}
    branches = [build_official_branch(cfg, convnext_sizes) for cfg in cfgs]
    for number, (branch, blocks) in enumerate(zip(branches, indexes, strict=True), start=1):
        _cut_unused_blocks(branch, blocks, f"branch{number}")
    simple = options["with_simple_fpn"]
    outputs = [] if simple else list(options["out_interaction_indexes"])
    _check_sizes(branches)
    _check_strides(branches[-1], [indexes[-1][number] for number in outputs])
    return build_network(
        branches[::-1],
        interaction_block_indexes=indexes[::-1],
        attention=_ATTENTION_KINDS[options["interact_attn_type"]],
        num_heads=options["deform_num_heads"],
        num_points=options["n_points"],
        value_ratio=options["deform_ratio"],
        with_projection=options["interaction_proj"],
        with_norm=options["norm_layer"] != "none",
        with_ffn=options["with_cffn"],
        ffn_ratio=options["cffn_ratio"],
        drop_path_rate=options["interaction_drop_path_rate"],
        merge="conv" if simple else "single_conv",
        out_interactions=outputs or None,
        out_features=list(STRIDES)[1 if options["is_dino"] else 0 :],
    )


def _build_alone(cfg: Mapping[str, Any], convnext_sizes: Mapping[str, Any] | None) -> PIIPNetwork:
    check_arguments(cfg, ALLOWED_ALONE)
    branch = build_official_branch(cfg, convnext_sizes)
    if isinstance(branch, ConvNeXtBranch):
        # Each stage gives a map; all stages but the first begin with a block that down-samples.
        ends = [sum(branch.depths[: stage + 1]) + stage - 1 for stage in range(len(branch.depths))]
        return build_network(
            [branch],
            interaction_block_indexes=[ends[:-1]],
            out_interactions=list(range(len(ends) - 1)),
            merge="none",
        )
    _check_strides(branch, [])
    last = branch.num_blocks - 1
    # None is what their class takes for that, too.
    if cfg.get("out_indices") not in (None, [last], (last,)):
        raise ValueError(
            f"out_indices must be [{last}], the last block, from which all maps are made; got "
            f"{cfg['out_indices']}"
        )
    return build_network([branch], num_interactions=0, merge="none", feature_norm="layer")


def _check_sizes(branches: Sequence[Branch]) -> None:
    sizes = [branch.img_size for branch in branches]
    if sizes != sorted(sizes):
        raise ValueError(f"real_size must not decrease from branch1 on, got {sizes}")


def _check_strides(branch: Branch, output_blocks: Sequence[int]) -> None:
    """Refuses what the reference makes maps of other strides than 4, 8, 16 and 32 from."""
    blocks = [*output_blocks, branch.num_blocks - 1]
    strides = [branch.stride_after(block) for block in blocks]
    is_plain = not isinstance(branch, ConvNeXtBranch) and set(strides) == {_PATCH_SIZE}
    if not is_plain and strides != list(STRIDES.values()):
        raise ValueError(
            "the maps of the last branch must have stride 16 (patch_size=16), or 4, 8, 16 and 32 "
            "by out_interaction_indexes where it is a ConvNeXt, so that the feature maps have the "
            f"strides 4, 8, 16 and 32; got {strides}"
        )


def _cut_unused_blocks(branch: Branch, indexes: Sequence[int], name: str) -> None:
    """Takes off the blocks behind the last interaction, which the reference never runs."""
    used = indexes[-1] + 1
    if used > branch.num_blocks or (used < branch.num_blocks and not hasattr(branch, "blocks")):
        raise ValueError(
            f"interaction_indexes must end at the last of the {branch.num_blocks} blocks, but "
            f"those of {name} end at number {used - 1}"
        )
    if used < branch.num_blocks:
        logger.warning(
            "The last %d blocks of %s follow no interaction; the released code never runs them, "
            "so they are left out.",
            branch.num_blocks - used,
            name,
        )
        del branch.get_submodule("blocks")[used:]  # type: ignore[operator]
