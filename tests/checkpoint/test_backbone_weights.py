"""Weights of backbones in the reference's form: what is cut off on the way, and put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
    export_backbone_state_dict,
)
from tests.golden import cases


def weights_of(case: dict[str, Any]) -> dict[str, Tensor]:
    return cases.vector_weights(case["keys"])


@pytest.mark.parametrize("name", list(cases.vector_cases()))
def test_back_to_the_same_weights(name: str) -> None:
    case = cases.vector_cases()[name]
    weights = weights_of(case)
    ours = convert_backbone_state_dict(weights, case["config"])
    back = export_backbone_state_dict(ours, case["config"])
    added = {key for key in back if key.endswith("relative_position_index")}
    assert set(back) - added == set(weights)
    # A second conversion meets all that the networks use, wherever it stood.
    again = convert_backbone_state_dict(back, case["config"])
    assert list(again) == list(ours)
    assert all(torch.equal(again[key], ours[key]) for key in ours)
    unused = ("pos_embed", "temporal_pos_embed", "convnext_model.layernorm", "fpn1")
    for key, tensor in weights.items():
        if not any(part in key for part in unused):
            assert torch.equal(back[key], tensor), key


def test_class_rows_are_cut_off_and_put_back_empty() -> None:
    case = cases.vector_cases()["h6b_2branch"]
    weights = weights_of(case)
    ours = convert_backbone_state_dict(weights, case["config"])
    assert torch.equal(ours["branches.0.pos_embed"], weights["branch1.pos_embed"][:, 1:])
    back = export_backbone_state_dict(ours, case["config"])["branch1.pos_embed"]
    assert torch.equal(back[:, 1:], weights["branch1.pos_embed"][:, 1:])
    assert not back[:, 0].any()
    # Nothing of the whole table stays in memory, or gets into a file.
    table = ours["branches.0.pos_embed"]
    assert table.untyped_storage().nbytes() == table.numel() * 4


def test_times_of_uni_perceiver() -> None:
    case = cases.vector_cases()["uniperceiver"]
    weights = weights_of(case)
    prefix = "branch1.visual_embed.patch_embed."
    ours = convert_backbone_state_dict(weights, case["config"])
    times = weights[f"{prefix}temporal_pos_embed.weight"]
    assert torch.equal(ours["branches.0.temporal_embed"][0], times[:1])
    back = export_backbone_state_dict(ours, case["config"])
    assert torch.equal(back[f"{prefix}temporal_pos_embed.weight"][0], times[0])
    assert not back[f"{prefix}temporal_pos_embed.weight"][1:].any()
    spatial = f"{prefix}spatial_pos_embed.weight"
    assert torch.equal(back[spatial], weights[spatial])


def test_index_of_relative_positions() -> None:
    case = cases.vector_cases()["beit"]
    ours = convert_backbone_state_dict(weights_of(case), case["config"])
    back = export_backbone_state_dict(ours, case["config"])
    index = back["branch1.blocks.0.attn.relative_position_index"]
    assert (index.shape, index.dtype) == ((49, 49), torch.int64)
    # A query in row 2, column 5 and a key in row 6, column 1 of a 7 x 7 window: ways -4 and 4.
    assert index[2 * 7 + 5, 6 * 7 + 1] == (-4 + 6) * 13 + 4 + 6
    other = back["branch2.blocks.1.attn.relative_position_index"]
    assert other.data_ptr() == index.data_ptr(), "a file would store it more than once"


def test_last_norms_and_upsamplers_are_neutral() -> None:
    case = cases.vector_cases()["convnext_cnn_branch3"]
    ours = convert_backbone_state_dict(weights_of(case), case["config"])
    back = export_backbone_state_dict(ours, case["config"])
    for branch, width in ((1, 128), (3, 96)):
        norm = f"branch{branch}.convnext_model.layernorm"
        assert torch.equal(back[f"{norm}.weight"], torch.ones(width))
        assert torch.equal(back[f"{norm}.bias"], torch.zeros(width))
    dino = cases.vector_cases()["tsb_dino"]
    ours = convert_backbone_state_dict(weights_of(dino), dino["config"])
    back = export_backbone_state_dict(ours, dino["config"])
    assert not back["fpn1.3.weight"].any()


def test_dino_may_come_without_the_unused_upsampler() -> None:
    case = cases.vector_cases()["tsb_dino"]
    weights = weights_of(case)
    without = {name: x for name, x in weights.items() if not name.startswith("fpn1.")}
    assert len(without) < len(weights)
    network = build_from_official(case["config"])
    for given in (weights, without):
        network.load_state_dict(convert_backbone_state_dict(given, case["config"]))
