"""Whether weights of the reference are of the families that a configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from piip_d2.checkpoint.reference_config import branch_family

# One weight of each class that no other has; "layers" and "blocks" begin with number 0.
_MARKS = {
    "ConvNextHFWrapper": "convnext_model.embeddings.patch_embeddings.weight",
    "UnifiedBertEncoder": "visual_embed.patch_embed.proj.weight",
    "BEiT": "blocks.0.attn.relative_position_bias_table",
    "InternViT6B": "blocks.0.ls1.gamma",
    "vit_models": "blocks.0.gamma_1",
}


def check_is_flat(state_dict: Mapping[str, Any]) -> None:
    """Checks that weights are no checkpoint that has them in one of its entries.

    Args:
        state_dict: Tensors by name.

    Raises:
        ValueError: If there are dicts in place of tensors.
    """
    inner = [name for name, value in state_dict.items() if isinstance(value, Mapping)]
    if inner:
        raise ValueError(
            f"the weights must be tensors by name, but there are dicts under {inner}; give the one "
            f"that holds the weights, such as checkpoint[{inner[0]!r}]"
        )


def check_families(state_dict: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> None:
    """Checks the families of branches, as far as both sides tell them.

    Args:
        state_dict: Tensors under the reference's names, without a leading ``backbone.``.
        cfg: The reference's configuration of the backbone, branches among the rest.

    Raises:
        ValueError: If a branch is of another family in the weights.
    """
    for name, branch in cfg.items():
        if not name.removeprefix("branch").isdecimal() or not _tells_family(branch):
            continue
        given, wanted = _family_of(state_dict, f"{name}."), [branch_family(branch)]
        if name == "branch4" and _tells_family(cfg.get("branch3")):
            # As released, the fourth branch is made like the third.
            wanted.append(branch_family(cfg["branch3"]))
        if given is not None and given not in wanted:
            raise ValueError(
                f"{name} is a {given} in these weights, but a {wanted[0]} in the configuration; "
                "give the configuration that belongs to the weights"
            )


def _tells_family(branch: Any) -> bool:
    return isinstance(branch, Mapping) and bool(branch.get("type") or branch.get("pretrained"))


def _family_of(state_dict: Mapping[str, Tensor], prefix: str) -> str | None:
    return next((family for family, mark in _MARKS.items() if prefix + mark in state_dict), None)
