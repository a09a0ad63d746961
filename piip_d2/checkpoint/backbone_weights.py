"""Whole backbones of the reference implementation as ours, and the way back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from piip_d2.checkpoint.backbone_names import is_never_used, rules_to_official, rules_to_ours
from piip_d2.checkpoint.foreign_families import check_families, check_is_flat
from piip_d2.checkpoint.reference_config import (
    branch_cfgs,
    branch_family,
    join_parts,
    read_backbone_cfg,
    side_of,
)
from piip_d2.checkpoint.renaming import rename_keys
from piip_d2.checkpoint.unused_weights import fill_unused

logger = logging.getLogger(__name__)

PREFIX = "backbone."
_DATA_PARALLEL = "module."
# Uni-Perceiver's table of times; a picture is at the first.
_NUM_TIMES = 8


@dataclass(frozen=True)
class ReferenceLayout:
    """How the reference names the weights of a network.

    Args:
        families: The reference's class of each branch, lowest resolution first.
        single: Whether the network is one of the reference's without a pyramid.
        has_unused_upsampler: Whether the reference stores a stride-4 up-sampler that nothing uses.
    """

    families: tuple[str, ...]
    single: bool
    has_unused_upsampler: bool


def convert_backbone_state_dict(
    state_dict: Mapping[str, Tensor], backbone_cfg: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Brings the weights of one of the reference's backbones under our names.

    Args:
        state_dict: Tensors under the reference's names, with or without a leading ``module.`` and
            ``backbone.``.
        backbone_cfg: The reference's configuration of that backbone, as
            :func:`build_from_official` takes it.

    Returns:
        The tensors under the names of :class:`piip_d2.modeling.backbone.PIIPNetwork`. What the
        network never uses is left out: class tokens' rows of position tables, later times of
        Uni-Perceiver, index buffers of BEiT, the last norm of ConvNeXt, blocks behind the last
        interaction, the stride-4 up-sampler of a three-branch DINO backbone.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If a branch is of another family than the configuration's, or if the fourth is
            neither the one of the configuration nor the one that the released class builds
            instead, or if the tensors lie deeper in the dict.
    """
    cfg = join_parts(backbone_cfg)
    check_is_flat(state_dict)
    kept = {
        key.removeprefix(_DATA_PARALLEL).removeprefix(PREFIX): tensor
        for key, tensor in state_dict.items()
    }
    check_families(kept, cfg)
    _log_fourth_branch(kept, cfg)
    unused = _unused_blocks(cfg)
    if cfg.get("is_dino"):
        unused += ("fpn1.",)
    used = {
        key: tensor
        for key, tensor in kept.items()
        if not (key.startswith(unused) or is_never_used(key))
    }
    return adapt_tensors(rename_keys(used, rules_to_ours()))


def adapt_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes off the rows of position tables that our networks do not have.

    Args:
        state_dict: The reference's tensors under our names.

    Returns:
        Our tensors; those that were cut are copies, so that nothing keeps the rest alive.
    """
    return {name: _adapted(name, tensor) for name, tensor in state_dict.items()}


def export_backbone_state_dict(
    state_dict: Mapping[str, Tensor], backbone_cfg: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Brings the weights of one of our backbones under the reference's names.

    Args:
        state_dict: Tensors under the names of :class:`piip_d2.modeling.backbone.PIIPNetwork`.
        backbone_cfg: The reference's configuration of that backbone.

    Returns:
        All tensors that the reference's class stores, but for blocks behind the last interaction,
        which it never runs. What else it does not use is filled: rows of class tokens and later
        times with zeros, index buffers anew, the last norm of ConvNeXt with ones and zeros, the
        up-sampler of a three-branch DINO backbone with zeros.

    Raises:
        KeyError: If a name is none of the configuration's network.
        ValueError: If the configuration is none of the reference's.
    """
    return export_names(state_dict, read_layout(backbone_cfg))


def read_layout(backbone_cfg: Mapping[str, Any]) -> ReferenceLayout:
    """Tells how the reference names the weights of a configuration's network.

    Args:
        backbone_cfg: The reference's configuration of a backbone.

    Returns:
        Families and what is stored beside them.

    Raises:
        ValueError: If the configuration is none of the reference's.
    """
    cfg = read_backbone_cfg(backbone_cfg)
    single = not cfg["type"].startswith("PIIP")
    families = [cfg["type"]] if single else [branch_family(cfg) for cfg in branch_cfgs(cfg)]
    return ReferenceLayout(
        tuple(families),
        single=single,
        has_unused_upsampler=cfg["type"] == "PIIPThreeBranch" and bool(cfg.get("is_dino")),
    )


def export_names(state_dict: Mapping[str, Tensor], layout: ReferenceLayout) -> dict[str, Tensor]:
    """Brings weights of a backbone under the names of a layout.

    Args:
        state_dict: Tensors under our names.
        layout: The reference's names.

    Returns:
        As :func:`export_backbone_state_dict`.

    Raises:
        KeyError: If a name is not in the layout.
    """
    restored = {
        name: _restored(name, tensor, layout.families) for name, tensor in state_dict.items()
    }
    rules = rules_to_official(layout.families, single=layout.single)
    official = rename_keys(restored, rules)
    return fill_unused(official, has_unused_upsampler=layout.has_unused_upsampler)


def _adapted(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(".temporal_embed") and tensor.dim() == 2:
        return tensor[:1].unsqueeze(0).clone()
    if not name.endswith(".pos_embed"):
        return tensor
    if tensor.dim() == 2:
        return tensor.unsqueeze(0)
    has_class_row = tensor.dim() == 3 and side_of(tensor.shape[1] - 1) > 0
    return tensor[:, 1:].clone() if has_class_row else tensor


def _restored(name: str, tensor: Tensor, families: tuple[str, ...]) -> Tensor:
    parts = name.split(".")
    if parts[0] != "branches" or len(parts) != 3 or int(parts[1]) >= len(families):
        return tensor
    family = families[int(parts[1])]
    if family == "InternViT6B" and parts[2] == "pos_embed":
        return torch.cat([tensor.new_zeros(1, 1, tensor.shape[2]), tensor], dim=1)
    if family == "UnifiedBertEncoder" and parts[2] == "pos_embed":
        return tensor.squeeze(0)
    if family == "UnifiedBertEncoder" and parts[2] == "temporal_embed":
        later = tensor.new_zeros(_NUM_TIMES - 1, tensor.shape[2])
        return torch.cat([tensor.squeeze(0), later])
    return tensor


def _unused_blocks(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    """Beginnings of the names of blocks that lie behind a branch's last interaction."""
    unused: list[str] = []
    for name, branch in cfg.items():
        if name.startswith("branch") and isinstance(branch, Mapping) and "depth" in branch:
            ranges = branch.get("interaction_indexes") or [[branch["depth"] - 1]]
            # The fourth branch may be as deep as the third, see below.
            depth = max(b["depth"] for b in cfg.values() if isinstance(b, Mapping) and "depth" in b)
            numbers = range(ranges[-1][-1] + 1, depth)
            unused += [f"{name}.{kind}.{i}." for i in numbers for kind in ("blocks", "layers")]
    return tuple(unused)


def _log_fourth_branch(state_dict: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> None:
    """Says which of the two networks with four branches the weights are of."""
    patches = state_dict.get("branch4.patch_embed.proj.weight")
    if patches is None or patches.dim() != 4 or "branch4" not in cfg:
        return
    width = patches.shape[0]
    wanted, released = (cfg[name].get("embed_dim") for name in ("branch4", "branch3"))
    if width not in (wanted, released):
        raise ValueError(
            f"the fourth branch of these weights has {width} channels, but the configuration "
            f"has {wanted} (or {released}, where the released class built it from the third "
            "branch's arguments); give the configuration that belongs to the weights"
        )
    if width != wanted:
        logger.warning(
            "These weights are of a network as released: its fourth branch has the sizes of "
            'the third. They fit what four_branch="as_released" builds.'
        )
