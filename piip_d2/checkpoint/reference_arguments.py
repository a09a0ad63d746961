"""Arguments of the reference's classes that would make another network than we can build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The values with which a network is one of ours; arguments that are not named here change nothing,
# or are read elsewhere.
ALLOWED_IN_BRANCHES: dict[str, tuple[Any, ...]] = {
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
ALLOWED_ALONE: dict[str, tuple[Any, ...]] = {
    "with_fpn": (True,),
    "single_branch": (True,),
}
ALLOWED_IN_PYRAMIDS: dict[str, tuple[Any, ...]] = {
    "norm_layer": (None, "none", "LayerNorm"),
    **{f"branch{number}_w_cls_token": (False, None) for number in range(1, 5)},
}


def check_arguments(cfg: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Checks the arguments of one of the reference's classes.

    Args:
        cfg: The arguments; unknown ones are not read.
        allowed: Values by argument: ``ALLOWED_IN_BRANCHES`` for a branch or a network alone,
            ``ALLOWED_ALONE`` for what only the latter has, ``ALLOWED_IN_PYRAMIDS`` for what stands
            beside several branches.

    Raises:
        ValueError: If one would make another network.
    """
    for name, values in allowed.items():
        if name in cfg and cfg[name] not in values:
            raise ValueError(
                f"{name}={cfg[name]!r} makes a network that cannot be built here; it can with "
                f"{' or '.join(map(repr, values))}"
            )
