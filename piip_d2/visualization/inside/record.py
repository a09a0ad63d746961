"""What happened inside a PIIP for one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from detectron2.structures import Instances
from torch import Tensor

from piip_d2.modeling.backbone import Branch, CrossBranchAttention, PIIPNetwork


@dataclass(frozen=True)
class AttentionRecord:
    """One branch attending to another in one interaction.

    Args:
        querying: Number of the branch that attends; branches ascend in resolution from 0.
        attended: Number of the branch that is attended to.
        module: What did it.
        query: (H, W, C), the map of the branch that attends.
        feature: (H', W', C'), the map of the other.
    """

    querying: int
    attended: int
    module: CrossBranchAttention
    query: Tensor
    feature: Tensor


@dataclass(frozen=True)
class InteractionRecord:
    """One interaction.

    Args:
        before: One map (H, W, C) per branch.
        after: The same behind the interaction.
        attentions: What attended to what, in the order in which it ran.
    """

    before: Sequence[Tensor]
    after: Sequence[Tensor]
    attentions: Sequence[AttentionRecord]


@dataclass
class Record:
    """What one image became on its way through a network.

    Args:
        network: The network.
        images: (3, H, W), what the network got: normalised and padded.
        content_size: Height and width of the image in it, in pixels; the rest is padding.
        pyramid: What each branch got of it, (3, h, w); branches ascend in resolution.
        embedded: One map (H, W, C) per branch, in front of its first block.
        interactions: By their number, from 0; those that were asked for.
        final: One map (H, W, C) per branch, as it is merged.
        contributions: By branch what the last merge adds up, (C, H, W) on the branch's own grid,
            its weight included; empty if nothing is added up.
        merged: (C, H, W), what came of it.
        feature_maps: The network's output, (C, H, W) by name.
        pixel_mean: Mean and deviation by which images were normalised, in the order of their
            channels; None if unknown.
        pixel_std: See there.
        channel_order: "RGB" or "BGR", the order of their channels.
    """

    network: PIIPNetwork
    images: Tensor
    content_size: tuple[int, int]
    pyramid: list[Tensor] = field(default_factory=list)
    embedded: list[Tensor] = field(default_factory=list)
    interactions: dict[int, InteractionRecord] = field(default_factory=dict)
    final: list[Tensor] = field(default_factory=list)
    contributions: dict[int, Tensor] = field(default_factory=dict)
    merged: Tensor = field(default_factory=lambda: torch.empty(0))
    feature_maps: dict[str, Tensor] = field(default_factory=dict)
    pixel_mean: Sequence[float] | None = None
    pixel_std: Sequence[float] | None = None
    channel_order: str = "RGB"

    @property
    def branches(self) -> list[Branch]:
        """The network's branches, ascending in resolution."""
        return [cast(Branch, branch) for branch in self.network.branches]

    @property
    def content_share(self) -> tuple[float, float]:
        """How much of the height and the width is no padding, each in (0, 1]."""
        height, width = self.images.shape[-2:]
        return self.content_size[0] / height, self.content_size[1] / width


@dataclass(frozen=True)
class DetectorRecord:
    """What one image became on its way through a detector.

    Args:
        inside: What happened in its network.
        image: (h, w, 3), the image as it came: RGB in uint8.
        detections: What was found, in pixels of ``image``.
    """

    inside: Record
    image: Any
    detections: Instances
