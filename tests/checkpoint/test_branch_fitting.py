"""Weights of single networks that a branch does not take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint.branch_weights import load_branch_weights
from piip_d2.modeling.backbone import ViTBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from tests.checkpoint.foreign_networks import (
    SMALL_VIT,
    State,
    beit,
    timm_convnext,
    timm_vit,
    uniperceiver,
)

_VIT: dict[str, Any] = {"img_size": 64, "pretrain_img_size": 64, **SMALL_VIT}


def test_plain_weights_are_not_for_a_class_that_is_derived_from_theirs() -> None:
    state, _ = timm_vit("deit_tiny_patch16_224", img_size=64)
    branch = UniPerceiverBranch(**_VIT)
    with pytest.raises(ValueError, match="for a ViTBranch or TimmBranch, but this is a UniPerc"):
        load_branch_weights(branch, state)


def test_a_class_of_ones_own_takes_what_its_base_takes() -> None:
    class OwnBranch(ViTBranch):
        pass

    state, _ = timm_vit("deit_tiny_patch16_224", img_size=64)
    branch = OwnBranch(**_VIT)
    load_branch_weights(branch, state)
    assert torch.equal(branch.get_parameter("blocks.0.norm1.bias"), state["blocks.0.norm1.bias"])


def _without(state: State, name: str) -> State:
    return {key: x for key, x in state.items() if key != name}


def _with(state: State, **more: Tensor) -> State:
    return {**state, **{name.replace("__", "."): x for name, x in more.items()}}


@pytest.mark.parametrize(
    ("branch", "change", "message"),
    [
        (
            {"embed_dim": 64},
            dict,
            r"of 45 weights of a plain vision transformer 39 are of another size: "
            r"pos_embed \(1x17x32 there, 1x16x64 here\)",
        ),
        ({"depth": 2}, dict, r"12 are not in the branch: blocks.\*.norm1.weight"),
        ({"depth": 4}, dict, r"12 are missing there: blocks.\*.norm1.weight"),
        ({"mlp_ratio": 2.0}, dict, r"9 are of another size: .*fc1.weight \(128x32 there, 64x32 h"),
        ({"init_values": 0.1}, dict, r"6 are missing there: blocks.\*.ls1.gamma, blocks.\*.ls2"),
        (
            {"init_values": None},
            lambda state: _with(state, blocks__0__ls1__gamma=torch.ones(32)),
            r"1 are not in the branch: blocks.\*.ls1.gamma",
        ),
        ({}, lambda state: _without(state, "blocks.1.attn.qkv.bias"), "1 are missing there: bl"),
        ({}, lambda _: timm_convnext()[0], "a ConvNeXt.*, for a ConvNeXtBranch or TimmBranch, but"),
        ({}, lambda _: beit(4), "they are of a BEiT, for a BEiTBranch, but this is a ViTBranch"),
        ({}, lambda _: uniperceiver(), "of a Uni-Perceiver, for a UniPerceiverBranch, but"),
        ({}, lambda _: {"conv1.weight": torch.zeros(1)}, "none of the kinds .*begin with conv1"),
        (
            {},
            lambda state: {f"{b}.{name}": x for name, x in state.items() for b in ("ema", "raw")},
            r"they are of 2 networks \(ema., raw.\)",
        ),
        (
            {},
            lambda state: _with(state, pos_embed=torch.zeros(1, 23, 32)),
            "position table must have .* got 23 rows",
        ),
        (
            {},
            lambda state: _with(state, blocks__1__norm2__bias=torch.full((32,), torch.nan)),
            "1 of its weights hold NaN or infinite numbers, the first is blocks.1.norm2.bias;",
        ),
        ({}, lambda state: _with(state, pos_embed=state["pos_embed"] / 0), "first is pos_embed"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_changes_nothing(
    branch: dict[str, Any], change: Any, message: str
) -> None:
    state, _ = timm_vit("deit_tiny_patch16_224", img_size=64)
    target = ViTBranch(**{**_VIT, **branch})
    before = {name: x.clone() for name, x in target.state_dict().items()}
    with pytest.raises(
        ValueError, match=f"^the given weights cannot be loaded into branch 1: .*{message}"
    ):
        load_branch_weights(target, change(state), name="branch 1")
    assert all(torch.equal(x, before[name]) for name, x in target.state_dict().items())
