"""Names of the reference implementation's detection backbones, and ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from piip_d2.checkpoint.renaming import Rule, rename_keys

logger = logging.getLogger(__name__)


def _index(group: str) -> str:
    """The reference counts branches from 1."""
    return str(int(group) - 1)


def _unit(match: re.Match[str]) -> str:
    direction = "high_to_low" if match["direction"] == "branch2to1" else "low_to_high"
    return (
        f"interactions.{match['stage']}.units.{_index(match['low'])}.{direction}."
        f"{_UNIT_PARTS.get(match['part'], match['part'])}"
    )


_UNIT_PARTS = {
    "proj": "feat_proj",
    "injector.ca_gamma": "attn_gamma",
    "injector.cffn_gamma": "ffn_gamma",
    "injector.query_norm": "query_norm",
    "injector.feat_norm": "feat_norm",
    "injector.ffn_norm": "ffn_norm",
    "injector.ffn.fc1": "ffn.fc1",
    "injector.ffn.fc2": "ffn.fc2",
    "injector.ffn.dwconv.dwconv": "ffn.dwconv",
    "injector.attn.sampling_offsets": "attn.deform.sampling_offsets",
    "injector.attn.attention_weights": "attn.deform.attention_weights",
    "injector.attn.value_proj": "attn.deform.value_proj",
    "injector.attn.output_proj": "attn.deform.output_proj",
    "injector.attn.wq": "attn.q_proj",
    "injector.attn.wk": "attn.k_proj",
    "injector.attn.wv": "attn.v_proj",
    "injector.attn.proj": "attn.proj",
}
# Longer names first, so that none is cut off at its own beginning.
_UNIT_PART_PATTERN = "|".join(
    re.escape(part) for part in sorted(_UNIT_PARTS, key=len, reverse=True)
)

BACKBONE_RULES: tuple[Rule, ...] = (
    (r"w(\d+)$", lambda match: f"merge.weights.{_index(match[1])}"),
    (r"merge_branch(\d+)\.", lambda match: f"merge.projections.{_index(match[1])}."),
    (r"fpn1\.", "feature_maps.maps.res2."),
    (r"fpn2\.", "feature_maps.maps.res3."),
    (
        r"branch(\d+)\.(blocks\.\d+)\.gamma_(1|2)$",
        lambda match: f"branches.{_index(match[1])}.{match[2]}.ls{match[3]}.gamma",
    ),
    (
        r"branch(\d+)\.(?=(?:pos_embed|patch_embed|blocks)\b)",
        lambda match: f"branches.{_index(match[1])}.",
    ),
    (
        r"interactions\.(?P<stage>\d+)\.interaction_units_(?P<low>\d)\d\."
        rf"(?P<direction>branch2to1|branch1to2)_(?P<part>{_UNIT_PART_PATTERN})(?=\.|$)",
        _unit,
    ),
)
"""From the reference's names, without a leading ``backbone.``, to ours."""


def convert_backbone_state_dict(
    state_dict: Mapping[str, Tensor], backbone_cfg: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Renames a backbone of the reference implementation.

    Args:
        state_dict: Tensors under the reference's names, with or without a leading ``backbone.``.
        backbone_cfg: The reference's configuration of that backbone.

    Returns:
        The tensors under the names of :class:`piip_d2.modeling.backbone.PIIPNetwork`. What the
        network never uses is left out: the stride-4 up-sampler of a three-branch DINO backbone.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If the fourth branch is neither the one of the configuration nor the one that
            the released class builds instead.
    """
    _log_fourth_branch(state_dict, backbone_cfg)
    kept = {
        key.removeprefix("backbone."): tensor
        for key, tensor in state_dict.items()
        if not (backbone_cfg.get("is_dino") and key.removeprefix("backbone.").startswith("fpn1."))
    }
    return rename_keys(kept, BACKBONE_RULES)


def _log_fourth_branch(state_dict: Mapping[str, Tensor], backbone_cfg: Mapping[str, Any]) -> None:
    """Says which of the two networks with four branches the weights are of."""
    for prefix in ("", "backbone."):
        patches = state_dict.get(f"{prefix}branch4.patch_embed.proj.weight")
        if patches is None or patches.dim() != 4 or "branch4" not in backbone_cfg:
            continue
        width = patches.shape[0]
        wanted, released = (backbone_cfg[name].get("embed_dim") for name in ("branch4", "branch3"))
        if width not in (wanted, released):
            raise ValueError(
                f"the fourth branch of these weights has {width} channels, but the configuration "
                f"has {wanted} (or {released}, where the released class built it from the third "
                "branch's arguments); give the configuration that belongs to the weights"
            )
        if width != wanted:
            logger.warning(
                "These weights are of a network as released: its fourth branch has the sizes of "
                'the third. Build it with four_branch="as_released".'
            )
