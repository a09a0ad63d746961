"""The kinds of networks that branches begin from, told by the names of their weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from piip_d2.checkpoint.network_names import (
    HF_CONVNEXT,
    LAYER_SCALE,
    ORIGINAL_CONVNEXT,
    UNI_PERCEIVER,
)
from piip_d2.checkpoint.renaming import Pair, Rule, rename_keys, rules_of
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.timm_branch import TimmBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch

BIAS_TABLE = "relative_position_bias_table"
_SHARED_TABLE = f"rel_pos_bias.{BIAS_TABLE}"
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token", "register_tokens", "storage_tokens")
# What stands behind or beside the blocks: tokens that are no cells, last norms, heads, decoders.
_LEFT_OUT = re.compile(
    rf"({'|'.join(_PREFIX_TOKENS)}|mask_token|norm|fc_norm|layernorm|head|head_dist|classifier"
    r"|pre_logits|attn_pool|decoder\w*|lm_head|rel_pos_bias)(\.|$)"
    r"|blocks\.\d+\.attn\.(relative_position_index|k_bias)$"
)

_ANY_OTHER_NAME: Rule = ("", "")


@dataclass(frozen=True)
class Family:
    """A kind of network and whose names its weights have.

    Args:
        description: What to call it.
        anchor: A name that all of them have; what stands before it in a file stands before all.
        marks: Names of which each file has at least one.
        names: Beginnings of names and what our branches call the same.
        branches: The classes of branches that take its weights; a class derived from one takes
            them too, unless it has a family of its own.
    """

    description: str
    anchor: str
    marks: tuple[str, ...]
    names: tuple[Pair, ...]
    branches: tuple[type[Branch], ...]


# The first that fits counts.
FAMILIES = (
    Family(
        "a Uni-Perceiver",
        "visual_embed.patch_embed.proj.weight",
        ("layers.0.self_attn.in_proj.weight",),
        UNI_PERCEIVER,
        (UniPerceiverBranch,),
    ),
    Family(
        "a Uni-Perceiver (our names)",
        "patch_embed.proj.weight",
        ("temporal_embed",),
        (),
        (UniPerceiverBranch,),
    ),
    Family(
        "a BEiT",
        "patch_embed.proj.weight",
        (f"blocks.0.attn.{BIAS_TABLE}", _SHARED_TABLE),
        LAYER_SCALE,
        (BEiTBranch,),
    ),
    Family(
        "a plain vision transformer",
        "patch_embed.proj.weight",
        (
            "blocks.0.attn.proj.weight",
            # Those of timm whose blocks do several things at once.
            "blocks.0.attns.0.attn.proj.weight",
            "blocks.0.attn_out_proj.weight",
            "blocks.0.out_proj.weight",
        ),
        LAYER_SCALE,
        (ViTBranch, TimmBranch),
    ),
    Family(
        "a ConvNeXt (timm's names)",
        "stem.0.weight",
        ("stages.0.blocks.0.conv_dw.weight",),
        (),
        (ConvNeXtBranch, TimmBranch),
    ),
    Family(
        "a ConvNeXt (its authors' names)",
        "downsample_layers.0.0.weight",
        ("stages.0.0.dwconv.weight",),
        ORIGINAL_CONVNEXT,
        (ConvNeXtBranch, TimmBranch),
    ),
    Family(
        "a ConvNeXt (Hugging Face's names)",
        "embeddings.patch_embeddings.weight",
        ("encoder.stages.0.layers.0.dwconv.weight",),
        HF_CONVNEXT,
        (ConvNeXtBranch, TimmBranch),
    ),
)


def find_family(weights: Mapping[str, Tensor]) -> tuple[Family, dict[str, Tensor]]:
    """Finds out what kind of network weights are of.

    Args:
        weights: Tensors by name.

    Returns:
        The kind, and all weights, those of the network without what stands before all of their
        names, as ``module.encoder.`` in ``module.encoder.patch_embed.proj.weight``.

    Raises:
        ValueError: If it is none of :data:`FAMILIES`, or if there are several networks.
    """
    for family in FAMILIES:
        ends = [key for key in weights if _ends_with(key, family.anchor)]
        prefixes = [key.removesuffix(family.anchor) for key in ends]
        found = [p for p in prefixes if any(p + mark in weights for mark in family.marks)]
        if len(found) > 1:
            raise ValueError(
                f"they are of {len(found)} networks ({', '.join(sorted(found))}); give a file "
                "with one, or a whole detector's as train.init_checkpoint"
            )
        if found:
            return family, {name.removeprefix(found[0]): weights[name] for name in weights}
    known = dict.fromkeys(family.description.partition(" (")[0] for family in FAMILIES)
    raise ValueError(
        f"by their names they are of none of the kinds that a branch can begin from "
        f"({', '.join(known)}); they begin with {', '.join(list(weights)[:3])}"
    )


def rename(
    weights: Mapping[str, Tensor], family: Family, wanted: Collection[str]
) -> dict[str, Tensor]:
    """Brings the weights of a family under the names of our branches.

    Args:
        weights: Tensors by the family's names.
        family: The family.
        wanted: Names that the branch has; what is called so already is not renamed.

    Returns:
        Tensors by our names, or their own where we have none, in our branches' shapes but for
        sizes.
    """
    foreign = {name: tensor for name, tensor in weights.items() if name not in wanted}
    renamed = {name: tensor for name, tensor in weights.items() if name in wanted}
    renamed |= rename_keys(foreign, [*rules_of(family.names), _ANY_OTHER_NAME])
    shared = renamed.pop(_SHARED_TABLE, None)
    if shared is not None:
        tables = [name for name in wanted if name.endswith(BIAS_TABLE)]
        renamed |= dict.fromkeys(tables, shared)
    for name in ("pos_embed", "temporal_embed"):
        if name in renamed and renamed[name].dim() == 2:
            renamed[name] = renamed[name].unsqueeze(0)
    if "temporal_embed" in renamed:
        # A picture is the first frame of a film.
        renamed["temporal_embed"] = renamed["temporal_embed"][:, :1]
    return renamed


def count_prefix_tokens(weights: Mapping[str, Tensor]) -> int:
    """Counts the tokens of a transformer that stand before those of cells."""
    return sum(weights[name].shape[1] for name in _PREFIX_TOKENS if name in weights)


def is_left_out(name: str) -> bool:
    """Tells whether a branch has no use for a weight of this name, of whatever family."""
    return bool(_LEFT_OUT.match(name))


def takes(branch: Branch, family: Family) -> bool:
    """Tells whether a branch is of a class that takes the weights of a family."""
    known = {kind for each in FAMILIES for kind in each.branches}
    nearest = next((kind for kind in type(branch).__mro__ if kind in known), None)
    return nearest in family.branches


def _ends_with(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")
