"""What is written down while a network runs."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from piip_d2.modeling.backbone import PIIPNetwork
from piip_d2.visualization.inside import record_network, recording
from tests.visualization.inside.small_networks import NETWORKS, network, vit

IMAGES = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_what_the_network_computes(name: str) -> None:
    built = NETWORKS[name]()
    expected = built.forward_intermediates(IMAGES)
    record = record_network(built, IMAGES, (90, 128))
    assert torch.equal(record.images, IMAGES[0])
    for number in range(len(built.branches)):
        assert torch.equal(_first(expected["embed"][number]), record.embedded[number])
        assert torch.equal(_first(expected["final"][number]), record.final[number])
        if record.interactions:
            assert torch.equal(
                _first(expected["pre"][number]), record.interactions[0].before[number]
            )
            assert torch.equal(
                _first(expected["post"][number]), record.interactions[0].after[number]
            )
    assert record.pyramid[-1].shape == (3, 96, 128)
    assert list(record.interactions) == list(range(len(built.interactions)))
    outputs = built(IMAGES)
    assert list(record.feature_maps) == list(outputs)
    for output_name, output in outputs.items():
        assert torch.equal(record.feature_maps[output_name], output[0])


@pytest.mark.parametrize("name", ["two ViTs", "ConvNeXt and ViT", "some merged"])
def test_contributions_add_up_to_what_is_merged(name: str) -> None:
    built = NETWORKS[name]()
    for number, weight in enumerate(built.merge.weights):
        nn.init.constant_(cast(nn.Parameter, weight), 0.5 + number)
    record = record_network(built, IMAGES)
    grid = record.merged.shape[-2:]
    total = sum(
        nn.functional.interpolate(x[None], grid, mode="bilinear", align_corners=False)[0]
        for x in record.contributions.values()
    )
    torch.testing.assert_close(total, record.merged)
    assert sorted(record.contributions) == built.merge.merged


def test_the_network_stays_as_it_was() -> None:
    built = NETWORKS["two ViTs"]().train()
    before = {name: len(module._forward_hooks) for name, module in built.named_modules()}
    record_network(built, IMAGES)
    assert built.training
    assert all("embed" not in branch.__dict__ for branch in built.branches)
    for name, module in built.named_modules():
        assert len(module._forward_hooks) == before[name] and not module._forward_pre_hooks


def test_hooks_are_gone_after_an_error() -> None:
    built = NETWORKS["two ViTs"]()
    with pytest.raises(ValueError, match="too small"), recording(built):
        built(torch.zeros(1, 3, 8, 8))
    assert not any(module._forward_pre_hooks for module in built.modules())
    assert all("embed" not in branch.__dict__ for branch in built.branches)


def test_only_wanted_interactions_are_kept() -> None:
    built = NETWORKS["four ViTs"]()
    record = record_network(built, IMAGES, interactions=[1])
    assert list(record.interactions) == [1]
    directions = [(seen.querying, seen.attended) for seen in record.interactions[1].attentions]
    assert sorted(directions) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]


def test_records_are_copies() -> None:
    built = NETWORKS["two ViTs"]()
    record = record_network(built, IMAGES)
    kept = record.final[0].clone()
    built(torch.zeros_like(IMAGES))
    assert torch.equal(record.final[0], kept)


def test_mistakes_are_explained() -> None:
    built = NETWORKS["two ViTs"]()
    with pytest.raises(ValueError, match=r"from 0 to 1; got \[2\]"):
        record_network(built, IMAGES, interactions=[2])
    with pytest.raises(ValueError, match="none, as the network has none"):
        record_network(NETWORKS["one branch"](), IMAGES, interactions=[0])
    with pytest.raises(ValueError, match="one image at a time"):
        record_network(built, IMAGES.repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match="within the images of 96 x 128 pixels, got 97 x 10"):
        record_network(built, IMAGES, (97, 10))
    with pytest.raises(ValueError, match="has none"):
        record_network(nn.Identity(), IMAGES)


def test_inner_networks_are_found() -> None:
    class Backbone(nn.Module):
        def __init__(self, inner: PIIPNetwork) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return cast(dict[str, torch.Tensor], self.inner(images))

    record = record_network(Backbone(network([vit(64), vit(32)])), IMAGES)
    assert len(record.pyramid) == 2


def _first(x: torch.Tensor) -> torch.Tensor:
    return x[0].permute(1, 2, 0)
