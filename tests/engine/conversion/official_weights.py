"""Detectors as the authors' code saves them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tests.golden.cases import BackboneCase


def official_weights(case: str, heads: Mapping[str, Tensor], first: str) -> dict[str, Tensor]:
    """Joins a small backbone with small heads, which are made for fewer channels.

    Args:
        case: Name of the stored backbone.
        heads: Weights of the neck and what is behind it.
        first: Beginning of the names of convolutions that see the backbone's maps.

    Returns:
        All weights; these convolutions are repeated over the channels of the backbone.
    """
    backbone = BackboneCase(case).weights
    width = backbone["merge_branch1.0.weight"].shape[0]
    fitting = {
        name: x.repeat(1, width // x.shape[1], 1, 1)
        if name.startswith(first) and x.dim() == 4
        else x
        for name, x in heads.items()
    }
    return {**{f"backbone.{name}": x for name, x in backbone.items()}, **fitting}
