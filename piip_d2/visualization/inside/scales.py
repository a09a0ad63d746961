"""What a network has learned about its exchanges: merge weights and interaction scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import Tensor

from piip_d2.modeling.backbone import (
    CrossBranchAttention,
    InteractionStage,
    InteractionUnit,
    PIIPNetwork,
)


@dataclass(frozen=True)
class DirectionScales:
    """The scales of one direction of exchange, over all interactions that have it.

    Args:
        querying: Number of the branch that is updated.
        attended: Number of the branch that it attends to.
        interactions: Numbers of the interactions.
        attention: Per interaction the size of every channel's scale of the attention (C,).
        ffn: The same of the ConvFFN; empty where there is none.
    """

    querying: int
    attended: int
    interactions: tuple[int, ...]
    attention: tuple[np.ndarray, ...]
    ffn: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class MergeWeights:
    """The weights of one merge.

    Args:
        interaction: Number of the interaction it follows; None for the merge at the end.
        weights: By number of the branch.
    """

    interaction: int | None
    weights: dict[int, float]


def interaction_scales(network: PIIPNetwork) -> list[DirectionScales]:
    """Reads the vectors that scale what interactions add (gamma), which start at zero.

    Args:
        network: The network.

    Returns:
        One entry per direction that there is, that of the highest resolutions first.
    """
    found: dict[tuple[int, int], list[tuple[int, CrossBranchAttention]]] = {}
    for number, module in enumerate(network.interactions):
        stage = cast(InteractionStage, module)
        for (low, high), unit in zip(stage.pairs, stage.units, strict=True):
            exchange = cast(InteractionUnit, unit)
            for querying, attended, attention in (
                (low, high, exchange.high_to_low),
                (high, low, exchange.low_to_high),
            ):
                if attention is not None:
                    found.setdefault((querying, attended), []).append((number, attention))
    order = sorted(found, key=lambda pair: (-max(pair), -min(pair), pair))
    return [
        DirectionScales(
            querying,
            attended,
            tuple(number for number, _ in found[querying, attended]),
            tuple(_sizes(module.attn_gamma) for _, module in found[querying, attended]),
            tuple(
                _sizes(module.ffn_gamma)
                for _, module in found[querying, attended]
                if module.ffn is not None
            ),
        )
        for querying, attended in order
    ]


def merge_weights(network: PIIPNetwork) -> list[MergeWeights]:
    """Reads the learned weights by which merges add up branches, which start at one.

    Args:
        network: The network.

    Returns:
        One entry per merge in the order of depth; none where nothing is added up.
    """
    merges: list[tuple[int | None, Any]] = [
        (int(index), merge) for index, merge in network.stage_merges.items()
    ]
    merges.append((None, network.merge))
    return [
        MergeWeights(
            interaction,
            {
                branch: float(weight.item())
                for branch, weight in zip(merge.merged, merge.weights, strict=True)
            },
        )
        for interaction, merge in merges
        if hasattr(merge, "weights")
    ]


def _sizes(gamma: Tensor) -> np.ndarray:
    return gamma.detach().abs().float().cpu().numpy()
