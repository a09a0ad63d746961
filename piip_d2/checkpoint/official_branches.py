"""Builds our branches from the arguments of the reference's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from piip_d2.checkpoint.reference_arguments import ALLOWED_IN_BRANCHES, check_arguments
from piip_d2.checkpoint.reference_config import branch_family, side_of
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch
from piip_d2.modeling.backbone.vit_block import per_block

_FUSED_MLP = "fused_mlp"
# What the reference's classes assume where a configuration says nothing.
_COMMON: dict[str, Any] = {
    "pretrain_img_size": 224,
    "patch_size": 16,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "drop_path_rate": 0.0,
    "with_cp": False,
    "window_attn": False,
    "window_size": 14,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "vit_models": {
        **_COMMON,
        "qkv_bias": True,
        "init_scale": 1e-4,
        "use_flash_attn": False,
        "Mlp_block": None,
    },
    "InternViT6B": {
        **_COMMON,
        "patch_size": 14,
        "embed_dim": 3200,
        "depth": 48,
        "num_heads": 25,
        "qkv_bias": False,
        "init_values": 0.1,
        "qk_normalization": True,
        "norm_layer_type": "RMSNorm",
        "mlp_type": "regular",
        "with_cp": True,
    },
    "BEiT": {
        **_COMMON,
        "qkv_bias": True,
        "init_values": None,
        "use_abs_pos_emb": False,
        "use_rel_pos_bias": True,
    },
    "UnifiedBertEncoder": {**_COMMON, "qkv_bias": True},
}
_NORMS = {"RMSNorm": "rms", "LayerNorm": "layer"}

_CONVNEXT_SIZES: dict[str, dict[str, list[int]]] = {
    "facebook/convnext-tiny-224": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    "facebook/convnext-small-224": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 27, 3]},
    "facebook/convnext-base-224": {"hidden_sizes": [128, 256, 512, 1024], "depths": [3, 3, 27, 3]},
    "facebook/convnext-large-224": {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]},
}
# The networks of the reference vectors in tests/golden, of which nobody else need know.
_MINIATURES: dict[str, dict[str, list[int]]] = {
    "convnext-mini-a": {"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1]},
    "convnext-mini-b": {"hidden_sizes": [32, 64, 64, 96], "depths": [1, 1, 2, 1]},
}


def build_official_branch(
    branch_cfg: Mapping[str, Any], convnext_sizes: Mapping[str, Any] | None
) -> Branch:
    """Builds the branch that a branch's dict describes.

    Args:
        branch_cfg: The reference's arguments of that branch; those that change nothing are not
            read.
        convnext_sizes: Dicts of ``hidden_sizes`` and ``depths`` by what ``pretrained`` says, for
            ConvNeXt other than the usual ones.

    Returns:
        The branch, with random weights.

    Raises:
        ValueError: If the family is unknown or a setting has no counterpart.
    """
    family = branch_family(branch_cfg)
    check_arguments(branch_cfg, ALLOWED_IN_BRANCHES)
    if family == "ConvNextHFWrapper":
        return _convnext(branch_cfg, convnext_sizes)
    options = {**_DEFAULTS[family], **branch_cfg}
    # The size of an image matters to networks with several branches alone.
    options.setdefault("real_size", options["pretrain_img_size"])
    shared = {
        "img_size": options["real_size"],
        **{name: options[name] for name in ("embed_dim", "depth", "num_heads", "patch_size")},
        "mlp_ratio": options["mlp_ratio"],
        "qkv_bias": options["qkv_bias"],
        "drop_path_rate": options["drop_path_rate"],
        "use_act_checkpoint": options["with_cp"],
    }
    return _BUILDERS[family](options, shared)


def _vit(options: Mapping[str, Any], shared: dict[str, Any]) -> Branch:
    return ViTBranch(
        **shared,
        pretrain_img_size=options["pretrain_img_size"],
        window_size=_windows(options),
        window_padding="before_qkv" if options["use_flash_attn"] else "after_qkv",
        drop_path_schedule="constant",
        init_values=options["init_scale"],
        act=_activation(options["Mlp_block"]),
    )


def _intern_vit(options: Mapping[str, Any], shared: dict[str, Any]) -> Branch:
    norm = options["norm_layer_type"]
    if norm not in _NORMS:
        raise ValueError(f"norm_layer_type must be one of {sorted(_NORMS)}, got {norm!r}")
    return ViTBranch(
        **shared,
        pretrain_img_size=options["pretrain_img_size"],
        window_size=_windows(options),
        drop_path_schedule="linear",
        init_values=options["init_values"],
        act=_activation(options["mlp_type"]),
        norm=_NORMS[norm],
        qk_norm=options["qk_normalization"],
    )


def _beit(options: Mapping[str, Any], shared: dict[str, Any]) -> Branch:
    if options["use_abs_pos_emb"] or not options["use_rel_pos_bias"]:
        raise ValueError(
            "a BEiT branch has relative positions alone (use_rel_pos_bias=True, "
            f"use_abs_pos_emb=False), got use_rel_pos_bias={options['use_rel_pos_bias']}, "
            f"use_abs_pos_emb={options['use_abs_pos_emb']}"
        )
    depth = options["depth"]
    grid = options["pretrain_img_size"] // options["patch_size"]
    sizes = per_block("window_size", options["window_size"], depth)
    return BEiTBranch(
        **shared,
        window_size=[size if size > 0 else grid for size in sizes],
        use_windows=[
            bool(use) and size > 0
            for use, size in zip(
                per_block("window_attn", options["window_attn"], depth), sizes, strict=True
            )
        ],
        init_values=options["init_values"],
    )


def _uni_perceiver(options: Mapping[str, Any], shared: dict[str, Any]) -> Branch:
    branch = UniPerceiverBranch(
        **shared,
        pretrain_img_size=options["pretrain_img_size"],
        window_size=_windows(options),
    )
    branch.register_load_state_dict_pre_hook(_take_table_of_file)
    return branch


def _convnext(branch_cfg: Mapping[str, Any], convnext_sizes: Mapping[str, Any] | None) -> Branch:
    name = str(branch_cfg.get("pretrained"))
    known = {**_CONVNEXT_SIZES, **(convnext_sizes or {})}
    sizes = known.get(name) or _MINIATURES.get(name)
    if sizes is None:
        raise ValueError(
            f"the sizes of the ConvNeXt {name!r} are not known; give them as "
            f"convnext_sizes={{{name!r}: {{'hidden_sizes': […], 'depths': […]}}}}, or name one of "
            f"{sorted(known)}"
        )
    return ConvNeXtBranch(
        img_size=branch_cfg.get("real_size", 224),
        depths=sizes["depths"],
        dims=sizes["hidden_sizes"],
        drop_path_rate=branch_cfg.get("drop_path_rate", 0.0),
    )


def _activation(mlp: str | None) -> str:
    # The fused kernel approximates by tanh.
    return "gelu_tanh" if mlp == _FUSED_MLP else "gelu"


def _windows(options: Mapping[str, Any]) -> Sequence[int | None]:
    depth = options["depth"]
    return [
        size if use_window and size > 0 else None
        for use_window, size in zip(
            per_block("window_attn", options["window_attn"], depth),
            per_block("window_size", options["window_size"], depth),
            strict=True,
        )
    ]


def _take_table_of_file(
    branch: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *unused: Any
) -> None:
    """Gives Uni-Perceiver's position table the grid that the weights were stored with.

    It is stretched over every image anyway, and the reference's class does not say what its
    argument pretrain_img_size is for.
    """
    stored = state_dict.get(f"{prefix}pos_embed")
    own = branch.get_parameter("pos_embed")
    if stored is None or stored.dim() != 3 or stored.shape[2] != own.shape[2]:
        return
    if stored.shape[1] != own.shape[1] and side_of(stored.shape[1]):
        branch.register_parameter("pos_embed", nn.Parameter(own.new_empty(stored.shape)))


_BUILDERS = {
    "vit_models": _vit,
    "InternViT6B": _intern_vit,
    "BEiT": _beit,
    "UnifiedBertEncoder": _uni_perceiver,
}
