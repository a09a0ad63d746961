"""Builds our networks from configurations of the reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from piip_d2.modeling.backbone import PIIPNetwork, ViTBranch, build_network

_NUM_BRANCHES = {"PIIPTwoBranch": 2, "PIIPThreeBranch": 3, "PIIPFourBranch": 4}
_FOUR_BRANCH_MODES = ("corrected", "as_released")
_ATTENTION_KINDS = {"deform": "deformable", "normal": "regular"}
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
}
_VIT_DEFAULTS: dict[str, Any] = {
    "pretrain_img_size": 224,
    "patch_size": 16,
    "depth": 12,
    "embed_dim": 768,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "drop_path_rate": 0.0,
    "init_scale": 1e-4,
    "use_flash_attn": False,
    "with_cp": False,
    "Mlp_block": None,
}


def build_from_official(
    backbone_cfg: Mapping[str, Any],
    *,
    four_branch: str = "corrected",
    convnext_sizes: Mapping[str, Any] | None = None,
) -> PIIPNetwork:
    """Builds the network that a backbone dict of the reference implementation describes.

    Args:
        backbone_cfg: The dict, with ``type`` one of ``PIIPTwoBranch``, ``PIIPThreeBranch``,
            ``PIIPFourBranch`` and the constructor's arguments. Those that leave the network as it
            is (paths of weights, for instance) are not read.
        four_branch: ``"corrected"`` builds the fourth branch from its own arguments,
            ``"as_released"`` from the third branch's, as the released class does.
        convnext_sizes: Sizes of ConvNeXt branches by the name of their weights; only for networks
            that have such branches.

    Returns:
        The network with random weights. Its ``forward`` takes images that are already normalised
        and padded.

    Raises:
        ValueError: If the type, a branch family or the kind of attention is unknown, or blocks
            are not split without gaps.
    """
    options = {**_PIIP_DEFAULTS, **backbone_cfg}
    _check_choices(options, four_branch)
    count = _NUM_BRANCHES[options["type"]]
    branch_cfgs = [dict(options[f"branch{number}"]) for number in range(1, count + 1)]
    if count == 4 and four_branch == "as_released":
        # The image size still comes from the fourth branch's own arguments.
        branch_cfgs[3] = {**branch_cfgs[2], "real_size": branch_cfgs[3]["real_size"]}
    branches = [_build_branch(cfg, convnext_sizes) for cfg in branch_cfgs]
    indexes = [
        _block_indexes(cfg["interaction_indexes"], branch.num_blocks)
        for cfg, branch in zip(branch_cfgs, branches, strict=True)
    ]
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
        out_features=["res2", "res3", "res4", "res5"][1 if options["is_dino"] else 0 :],
    )


def _check_choices(options: Mapping[str, Any], four_branch: str) -> None:
    if four_branch not in _FOUR_BRANCH_MODES:
        raise ValueError(f"four_branch must be one of {_FOUR_BRANCH_MODES}, got {four_branch!r}")
    if options.get("type") not in _NUM_BRANCHES:
        raise ValueError(
            f"the backbone's type must be one of {sorted(_NUM_BRANCHES)}, got "
            f"{options.get('type')!r}"
        )
    if options["interact_attn_type"] not in _ATTENTION_KINDS:
        raise ValueError(
            f"interact_attn_type must be one of {sorted(_ATTENTION_KINDS)}, got "
            f"{options['interact_attn_type']!r}"
        )


def _build_branch(
    branch_cfg: Mapping[str, Any], convnext_sizes: Mapping[str, Any] | None
) -> ViTBranch:
    # The reference tells families apart by the name of the weights, and by nothing else.
    pretrained = branch_cfg.get("pretrained") or ""
    if "deit" not in pretrained:
        raise ValueError(
            "only branches of the DeiT family can be built, whose 'pretrained' contains 'deit'; "
            f"got {pretrained!r}"
        )
    options = {**_VIT_DEFAULTS, **branch_cfg}
    return ViTBranch(
        img_size=options["real_size"],
        embed_dim=options["embed_dim"],
        depth=options["depth"],
        num_heads=options["num_heads"],
        patch_size=options["patch_size"],
        pretrain_img_size=options["pretrain_img_size"],
        mlp_ratio=options["mlp_ratio"],
        qkv_bias=options["qkv_bias"],
        window_size=_window_sizes(options),
        window_padding="before_qkv" if options["use_flash_attn"] else "after_qkv",
        drop_path_rate=options["drop_path_rate"],
        init_values=options["init_scale"],
        act="gelu_tanh" if options["Mlp_block"] == "fused_mlp" else "gelu",
        use_act_checkpoint=options["with_cp"],
    )


def _window_sizes(options: Mapping[str, Any]) -> list[int | None]:
    depth = options["depth"]
    use_windows = _per_block(options.get("window_attn", False), depth)
    sizes = _per_block(options.get("window_size", 14), depth)
    return [
        size if use_window and size > 0 else None
        for use_window, size in zip(use_windows, sizes, strict=True)
    ]


def _per_block(value: Any, depth: int) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [value] * depth


def _block_indexes(ranges: Sequence[Sequence[int]], num_blocks: int) -> list[int]:
    """Turns the reference's [first, last] pairs into the last blocks."""
    expected_first = 0
    for first, last in (tuple(pair) for pair in ranges):
        if first != expected_first:
            raise ValueError(
                f"interaction_indexes must run through the blocks without gaps from 0 on, got "
                f"{[list(pair) for pair in ranges]}"
            )
        expected_first = last + 1
    if expected_first != num_blocks:
        raise ValueError(
            f"interaction_indexes must end at the last of the {num_blocks} blocks, got "
            f"{[list(pair) for pair in ranges]}"
        )
    return [pair[-1] for pair in ranges]
