"""Arguments of the reference's classes that would make another network than we can build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The values with which a network is one of ours; arguments that are not named here change nothing,
# or are read elsewhere.
_ALLOWED_IN_BRANCHES: dict[str, tuple[Any, ...]] = {
    "in_chans": (3,),
    "drop_rate": (0, None),
    "attn_drop_rate": (0, None),
    "qk_scale": (None,),
    "norm_layer": (None, "LayerNorm"),
    "act_layer": (None, "GELU"),
    # Of DeiT's class: other stems, two blocks side by side.
    "Patch_layer": (None, "PatchEmbed"),
    "block_layers": (None, "Layer_scale_init_Block"),
    "Mlp_block": (None, "Mlp", "fused_mlp"),
    # Of InternViT's.
    "mlp_type": (None, "regular", "fused_mlp"),
    "with_final_norm": (False, None),
    # Of BEiT's.
    "use_shared_rel_pos_bias": (False, None),
    "hybrid_backbone": (None,),
}
_ALLOWED_ALONE: dict[str, tuple[Any, ...]] = {
    "with_fpn": (True,),
    "single_branch": (True,),
}
_ALLOWED_IN_PYRAMIDS: dict[str, tuple[Any, ...]] = {
    "norm_layer": (None, "none", "LayerNorm"),
    **{f"branch{number}_w_cls_token": (False, None) for number in range(1, 5)},
}


def check_branch_arguments(branch_cfg: Mapping[str, Any]) -> None:
    """Checks a branch's dict, or that of a network alone.

    Args:
        branch_cfg: The reference's arguments; unknown ones are not read.

    Raises:
        ValueError: If one would make another network.
    """
    _check(branch_cfg, _ALLOWED_IN_BRANCHES)


def check_single_arguments(cfg: Mapping[str, Any]) -> None:
    """Checks what only a network alone has beside the arguments of a branch.

    Args:
        cfg: The reference's arguments; unknown ones are not read.

    Raises:
        ValueError: If one would make another network.
    """
    _check(cfg, _ALLOWED_ALONE)


def check_pyramid_arguments(cfg: Mapping[str, Any]) -> None:
    """Checks what a network of several branches has beside its branches.

    Args:
        cfg: The reference's arguments; unknown ones are not read.

    Raises:
        ValueError: If one would make another network.
    """
    _check(cfg, _ALLOWED_IN_PYRAMIDS)


def _check(cfg: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in allowed.items():
        if name in cfg and cfg[name] not in values:
            raise ValueError(
                f"{name}={cfg[name]!r} makes a network that cannot be built here; it can with "
                f"{' or '.join(map(repr, values))}"
            )
