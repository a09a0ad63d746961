"""The form of a network: what it is made of, whatever its sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from piip_d2.checkpoint.network_layout import official_family
from piip_d2.modeling.backbone import Branch, InteractionUnit, PIIPNetwork
from piip_d2.modeling.backbone.vit_block import ViTBlock


@dataclass(frozen=True)
class Form:
    """What two networks have in common that run the same code.

    Args:
        families: The reference's class of each branch, smallest image first.
        blocks: Kinds of norms, of norms of queries, and of GELU in each of them; nothing for
            branches of convolutions.
        has_twins: Whether there are four branches of which the last two are of one width.
        exchange: Kinds of attention, of projection and of norm in interactions; nothing without.
        merges: Kinds of merges in the order of depth.
        maps: Names of the feature maps.
    """

    families: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    has_twins: bool
    exchange: tuple[str, ...]
    merges: tuple[str, ...]
    maps: tuple[str, ...]


def form_of(network: PIIPNetwork) -> Form:
    """Reads the form of a network, which may be on ``meta``."""
    branches = [cast(Branch, branch) for branch in network.branches]
    widths = [branch.channels_after(0) for branch in branches]
    merges = [*network.stage_merges.values(), network.merge]
    return Form(
        families=tuple(official_family(branch) for branch in branches),
        blocks=tuple(_block(branch.block_list[0]) for branch in branches),
        has_twins=len(widths) == 4 and widths[-2] == widths[-1],
        exchange=_exchange(network),
        merges=tuple(_kind(merge) for merge in merges),
        maps=tuple(network.feature_maps.strides),
    )


def _block(block: nn.Module) -> tuple[str, ...]:
    if not isinstance(block, ViTBlock):
        return ()
    query_norm = getattr(block.attn, "q_norm", None)
    return _kind(block.norm1), _kind(query_norm), block.mlp.act.approximate


def _exchange(network: PIIPNetwork) -> tuple[str, ...]:
    units = [unit for stage in network.interactions for unit in stage.units]
    if not units:
        return ()
    module = cast(InteractionUnit, units[0]).high_to_low
    return _kind(module.attn), _kind(module.feat_proj), _kind(module.query_norm)


def _kind(module: nn.Module | None) -> str:
    return "" if module is None else type(module).__name__
