"""How the reference would name one of our networks, and what tells foreign weights from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from piip_d2.checkpoint.backbone_weights import PREFIX, ReferenceLayout
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.interaction import InteractionStage, InteractionUnit
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch

# By what a branch's weights are called; the first that is there.
_FAMILY_MARKS = {
    "convnext_model.": "ConvNeXt",
    "visual_embed.": "Uni-Perceiver",
    "blocks.0.attn.relative_position_bias_table": "BEiT",
    "blocks.0.": "ViT",
}
_FAMILY_NAMES: dict[type[Branch], str] = {
    ConvNeXtBranch: "ConvNeXt",
    UniPerceiverBranch: "Uni-Perceiver",
    BEiTBranch: "BEiT",
    ViTBranch: "ViT",
}
_FIRST_WEIGHTS = {
    "ConvNeXt": "convnext_model.embeddings.patch_embeddings.weight",
    "Uni-Perceiver": "visual_embed.patch_embed.proj.weight",
    "BEiT": "patch_embed.proj.weight",
    "ViT": "patch_embed.proj.weight",
}
_WAY_OUT = "take the config that they were trained with"


def layout_of_network(network: PIIPNetwork) -> ReferenceLayout:
    """Tells how the reference names the weights of one of our networks.

    Args:
        network: The network.

    Returns:
        The families of its branches and what is stored beside them.

    Raises:
        ValueError: If the reference has no such network.
    """
    families = tuple(official_family(branch) for branch in _branches(network))
    adjacent = [(low, low + 1) for low in range(len(families) - 1)]
    for module in network.interactions:
        stage = cast(InteractionStage, module)
        units = [cast(InteractionUnit, unit) for unit in stage.units]
        both_ways = all(unit.high_to_low and unit.low_to_high for unit in units)
        if stage.pairs != adjacent or not both_ways:
            raise ValueError(
                'the reference has names for directions="adjacent" alone, in which neighbours '
                "exchange features in both directions"
            )
    if len(getattr(network.merge, "projections", families)) != len(families):
        raise ValueError("the reference has names for networks alone that merge all branches")
    makes_maps_at_the_end = len(network.stage_merges) == 0
    return ReferenceLayout(
        families,
        single=len(families) == 1,
        has_unused_upsampler=len(families) == 3
        and makes_maps_at_the_end
        and "res2" not in network.feature_maps.strides,
    )


def official_family(branch: Branch) -> str:
    """Names the reference's class for a branch.

    Of its two for plain vision transformers, one is DeiT's and drops all paths at the same rate;
    the other (InternViT, AugReg, MAE, DINOv2) lets the rate grow with depth.

    Args:
        branch: The branch.

    Returns:
        The name of the class.

    Raises:
        ValueError: If it has none.
    """
    if type(branch) is ViTBranch:
        return "vit_models" if branch.drop_path_schedule == "constant" else "InternViT6B"
    for kind, name in (
        (BEiTBranch, "BEiT"),
        (UniPerceiverBranch, "UnifiedBertEncoder"),
        (ConvNeXtBranch, "ConvNextHFWrapper"),
    ):
        if isinstance(branch, kind):
            return name
    raise ValueError(f"the reference has no branches of the kind {type(branch).__name__}")


def difference(state_dict: Mapping[str, Tensor], network: PIIPNetwork) -> str | None:
    """Finds the first thing by which foreign weights are of another network.

    Args:
        state_dict: A detector of the reference, under its names.
        network: The network they are wanted for.

    Returns:
        A sentence with the way out, or None if branches, families and widths agree.
    """
    weights = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in state_dict.items()
        if name.startswith(PREFIX)
    }
    numbers = sorted({int(m[1]) for name in weights if (m := re.match(r"branch(\d+)\.", name))})
    given, wanted = len(numbers) or 1, len(network.branches)
    if given != wanted:
        return (
            f"these weights are of a network with {given} branches, but the config has {wanted}: "
            f"{_WAY_OUT}"
        )
    prefixes = [f"branch{number}." for number in numbers] or [""]
    for prefix, branch in zip(prefixes, _branches(network), strict=True):
        found = _branch_difference(weights, prefix, branch)
        if found:
            return _fourth_branch(weights, network) or f"{found}: {_WAY_OUT}"
    return None


def _branches(network: PIIPNetwork) -> list[Branch]:
    return [cast(Branch, branch) for branch in network.branches]


def _branch_difference(weights: Mapping[str, Tensor], prefix: str, branch: Branch) -> str | None:
    title = f"the config's at {branch.img_size} pixels"
    name = prefix.rstrip(".") or "the network"
    marks = (
        family
        for mark, family in _FAMILY_MARKS.items()
        if any(key.startswith(prefix + mark) for key in weights)
    )
    family, wanted = next(marks, None), _FAMILY_NAMES.get(type(branch))
    if family is None or wanted is None:
        return None
    if family != wanted:
        return f"{name} is a {family} in these weights, but {title} is a {wanted}"
    first = weights.get(prefix + _FIRST_WEIGHTS[family])
    width = branch.channels_after(0)
    if first is not None and first.shape[0] != width:
        return f"{name} has {first.shape[0]} channels in these weights, but {title} has {width}"
    return None


def _fourth_branch(weights: Mapping[str, Tensor], network: PIIPNetwork) -> str | None:
    """Tells apart the two networks with four branches, of which one was released."""
    name = "branch{}.patch_embed.proj.weight"
    third, fourth = weights.get(name.format(3)), weights.get(name.format(4))
    if third is None or fourth is None:
        return None
    own = [branch.channels_after(0) for branch in _branches(network)]
    if third.shape[0] == fourth.shape[0] == own[2] != own[3]:
        return (
            "these weights are of a network as released, whose fourth branch repeats the third "
            f"({own[2]} channels), but the config has a true fourth branch ({own[3]}): take the "
            "config of the same name that ends in _as_released"
        )
    if own[2] == own[3] == third.shape[0] != fourth.shape[0]:
        return (
            f"these weights have a true fourth branch ({fourth.shape[0]} channels), but the config "
            f"repeats the third as the released code does ({own[3]}): take the config of the same "
            "name without _as_released"
        )
    return None
