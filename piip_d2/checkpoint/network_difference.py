"""What tells foreign weights from those of one of our networks, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from piip_d2.checkpoint.backbone_weights import PREFIX
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.interaction import InteractionStage
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
# A block of any family, and the number of its stage where it has stages.
_BLOCK = re.compile(
    r"(?:convnext_model\.encoder\.stages\.(?P<stage>\d+)\.)?(?:blocks|layers)\.(?P<block>\d+)\."
)
_FIRST_UNIT = re.compile(r"interactions\.0\.interaction_units_12\.branch2to1_(?P<part>.*)")
_WAY_OUT = "take the config that they were trained with"


def difference(state_dict: Mapping[str, Tensor], network: PIIPNetwork) -> str | None:
    """Finds the first thing by which foreign weights are of another network.

    Args:
        state_dict: A detector of the reference, under its names.
        network: The network they are wanted for.

    Returns:
        A sentence with the way out, or None if branches, families, widths, depths and
        interactions agree.
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
    found = _interaction_difference(weights, network) if given > 1 else None
    return f"{found}: {_WAY_OUT}" if found else None


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
    return _depth_difference(weights, prefix, branch)


def _depth_difference(weights: Mapping[str, Tensor], prefix: str, branch: Branch) -> str | None:
    blocks: dict[int, int] = {}
    for key in weights:
        match = _BLOCK.match(key, len(prefix)) if key.startswith(prefix) else None
        if match:
            stage, block = int(match["stage"] or 0), int(match["block"])
            blocks[stage] = max(block + 1, blocks.get(stage, 0))
    given = [blocks[stage] for stage in sorted(blocks)]
    wanted = list(getattr(branch, "depths", [branch.num_blocks]))
    if given == wanted:
        return None
    numbers, own_numbers = (" + ".join(map(str, depths)) for depths in (given, wanted))
    return (
        f"{prefix.rstrip('.') or 'the network'} has {numbers} blocks in these weights, but the "
        f"config's at {branch.img_size} pixels has {own_numbers}"
    )


def _interaction_difference(weights: Mapping[str, Tensor], network: PIIPNetwork) -> str | None:
    given = len({m[1] for name in weights if (m := re.match(r"interactions\.(\d+)\.", name))})
    wanted = len(network.interactions)
    if given != wanted:
        return (
            f"these weights are of a network with {given} interactions, but the config has {wanted}"
        )
    parts = [match["part"] for name in weights if (match := _FIRST_UNIT.match(name))]
    stage = cast(InteractionStage, network.interactions[0]) if wanted else None
    own = [] if stage is None else list(stage.state_dict())
    for theirs, ours, words in (
        ("injector.attn.sampling_offsets.", ".attn.deform.", 'attention="deformable"'),
        ("proj.", ".feat_proj.", "with_projection=True"),
        ("injector.query_norm.", ".query_norm.", "with_norm=True"),
        ("injector.ffn.", ".ffn.", "with_ffn=True"),
    ):
        has = any(part.startswith(theirs) for part in parts)
        has_own = any(ours in name for name in own)
        if parts and has != has_own:
            made, own_made = ("are", "are not") if has else ("are not", "are")
            return (
                f"the interactions of these weights {made} made with {words}, but the config's "
                f"{own_made}"
            )
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
