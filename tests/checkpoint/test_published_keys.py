"""All weights of all published backbones find their place, there and back."""

from __future__ import annotations

import pytest
import torch

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
    export_backbone_state_dict,
)
from piip_d2.checkpoint.backbone_weights import read_layout
from piip_d2.checkpoint.network_layout import layout_of_network
from tests.golden.published import published_backbones, published_keys


def test_all_configurations_are_here() -> None:
    assert len(published_keys()) == 33
    assert set(published_keys()) == set(published_backbones())


def _as_parameter(name: str) -> object:
    # Configurations that differ in resolutions alone have the same weights.
    first = next(
        other for other, keys in published_keys().items() if keys == published_keys()[name]
    )
    return pytest.param(name, marks=[] if name == first else [pytest.mark.slow])


@pytest.mark.parametrize("name", list(map(_as_parameter, published_keys())))
def test_there_and_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors without content need no random one, which costs most of the time.
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)
    config, keys = published_backbones()[name], published_keys()[name]
    with torch.device("meta"):
        # The released weights of four branches are of the network as released.
        network = build_from_official(config, four_branch="as_released")
    ours = {key: tensor.shape for key, tensor in network.state_dict().items()}

    converted = convert_backbone_state_dict(keys.meta_tensors(), config)
    assert {key: tensor.shape for key, tensor in converted.items()} == ours

    exported = export_backbone_state_dict(network.state_dict(), config)
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == keys.shapes
    # Without a configuration of theirs, our own network tells the names too.
    assert layout_of_network(network) == read_layout(config)
