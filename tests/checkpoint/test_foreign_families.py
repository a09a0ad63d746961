"""Weights and configurations that do not belong together are told apart by their families."""

from __future__ import annotations

import pytest
import torch

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
    export_backbone_state_dict,
)
from tests.checkpoint.test_official_configs import pyramid


def test_checkpoints_around_the_weights() -> None:
    with pytest.raises(
        ValueError, match=r"dicts under \['state_dict'\]; give .* checkpoint\['state"
    ):
        convert_backbone_state_dict({"state_dict": {"w1": torch.ones(())}}, {})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("deit", "vit_models"),
        ("beit", "BEiT"),
        ("perceiver", "UnifiedBertEncoder"),
        ("mae", "InternViT6B"),
    ],
)
def test_families_of_weights_and_configuration(path: str, family: str) -> None:
    config = pyramid({}, {"pretrained": path, "init_values": 0.1}, {})
    network = build_from_official(config)
    weights = export_backbone_state_dict(network.state_dict(), config)
    assert set(convert_backbone_state_dict(weights, config)) == set(network.state_dict())
    other = pyramid({}, {"pretrained": "mae" if path == "deit" else "deit"}, {})
    with pytest.raises(ValueError, match=f"branch2 is a {family} in these weights, but a "):
        convert_backbone_state_dict(weights, other)
