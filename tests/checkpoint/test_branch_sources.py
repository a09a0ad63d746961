"""Which weights of single networks go to which branch of a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.checkpoint.branch_weights import load_network_weights
from piip_d2.modeling.backbone import ConvNeXtBranch, ViTBranch, build_network
from tests.checkpoint.foreign_networks import (
    SMALL_CONVNEXT,
    SMALL_VIT,
    timm_convnext,
    timm_vit,
)


@pytest.fixture
def network() -> nn.Module:
    large = ConvNeXtBranch(img_size=64, **SMALL_CONVNEXT)
    small = ViTBranch(img_size=128, pretrain_img_size=64, **SMALL_VIT)
    pyramid = build_network([small, large], num_interactions=3, num_heads=2)
    return nn.ModuleDict({"backbone": pyramid})


def test_sources_are_given_largest_resolution_first(network: nn.Module, tmp_path: Path) -> None:
    states = [timm_vit("deit_tiny_patch16_224", img_size=64)[0], timm_convnext()[0]]
    files = [str(tmp_path / name) for name in ("first.pth", "second.pth")]
    for state, file in zip(states, files, strict=True):
        torch.save({"model": state}, file)
    reports = load_network_weights(network, files)
    assert [report.family[:8] for report in reports if report] == ["a plain ", "a ConvNe"]
    parameters = dict(network.named_parameters())
    name = "blocks.2.mlp.fc1.weight"
    assert torch.equal(parameters[f"backbone.branches.1.{name}"], states[0][name])
    name = "stages.1.downsample.1.weight"
    assert torch.equal(parameters[f"backbone.branches.0.{name}"], states[1][name])


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_source_leaves_a_branch_alone(network: nn.Module, empty: Any) -> None:
    before = {name: x.clone() for name, x in network.state_dict().items()}
    assert load_network_weights(network, [empty, empty]) == [None, None]
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["a.pth"], r"a list of 2, one for each branch, .*got 1: \['a.pth'\]"),
        (["", "", ""], "a list of 2, .*got 3"),
        ("a.pth", "a list of 2, .*got 'a.pth'"),
        (["", "nowhere.pth"], "the checkpoint nowhere.pth does not exist"),
    ],
)
def test_bad_sources(network: nn.Module, sources: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_network_weights(network, sources)


def test_a_misfit_names_its_branch(network: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(timm_vit("deit_tiny_patch16_224", img_size=64)[0], file)
    place = rf"^{file} cannot be loaded into branch 2 \(ConvNeXtBranch at 64\)"
    with pytest.raises(ValueError, match=f"{place}: they are of a plain vision transformer"):
        load_network_weights(network, ["", str(file)])


@pytest.mark.parametrize("last", ["nowhere.pth", "convnext.pth"])
def test_nothing_is_loaded_unless_all_can_be(
    network: nn.Module, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(timm_vit("deit_tiny_patch16_224", img_size=64)[0], "vit.pth")
    state = timm_convnext()[0]
    torch.save({**state, "stem.0.bias": torch.zeros(99)}, "convnext.pth")
    before = {name: x.clone() for name, x in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"does not exist|bias \(99 there, 8 here"):
        load_network_weights(network, ["vit.pth", last])
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


def test_model_without_branches() -> None:
    with pytest.raises(ValueError, match="one PIIP backbone, but a Linear has 0 of them"):
        load_network_weights(nn.Linear(1, 1), ["a.pth"])
