"""Chooses the kind of a branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from tests.oracle.convnext import ConvNeXt
from tests.oracle.named_layers import Shapes, Weights
from tests.oracle.transformers import VisionTransformer

_CLASSES = {"vit_models": "deit", "InternViT6B": "intern", "ConvNextHFWrapper": "convnext"}


class Branch(Protocol):
    """What the networks ask of a branch."""

    num_blocks: int

    def shapes(self) -> Shapes:
        """Shapes of all weights by their whole names."""

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        """Turns images (B, h, w, 3) into a map (B, H, W, C)."""

    def run_block(self, weights: Weights, features: Tensor, block: int) -> Tensor:
        """Runs one block on a map (B, H, W, C)."""

    def width_after(self, block: int) -> int:
        """Number of channels behind a block."""


def make_branch(config: Mapping[str, Any], prefix: str, sizes: Mapping[str, Any]) -> Branch:
    """Makes the branch that a configuration describes.

    Args:
        config: Its arguments; ``type`` is given for a network alone, else the path says it.
        prefix: What all names of weights begin with.
        sizes: Of ConvNeXt, by what ``pretrained`` says.

    Returns:
        The branch, which has no weights of its own.
    """
    family = _CLASSES[config["type"]] if "type" in config else _family_of(config["pretrained"])
    if family == "convnext":
        return ConvNeXt(sizes[config["pretrained"]], prefix)
    return VisionTransformer(family, config, prefix)


def _family_of(path: str) -> str:
    for family in ("deit", "beit", "perceiver", "convnext"):
        if family in path:
            return family
    return "intern"
