"""PIIP's layer-wise decay against hand-computed cases and the released recipe's group sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.modeling.backbone import build_network, build_vit_branch
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.timm_branch import TimmBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.solver import get_piip_param_groups

LR = 1e-4


class NamedParameters(nn.Module):
    """A module whose only content is parameters of given dotted names and shapes."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            owner: nn.Module = self
            *parents, leaf = name.split(".")
            for parent in parents:
                if parent not in owner._modules:
                    owner.add_module(parent, nn.Module())
                owner = owner._modules[parent]  # type: ignore[assignment]
            owner.register_parameter(leaf, nn.Parameter(torch.zeros(shape)))


def make_model(depths: Sequence[int], prefix: str = "backbone.bottom_up.") -> nn.Module:
    """Branches of the given depths, the largest network first, and something of everything else."""
    shapes: dict[str, tuple[int, ...]] = {}
    for branch, depth in enumerate(depths):
        root = f"{prefix}branches.{branch}."
        shapes[f"{root}pos_embed"] = (1, 4, 8)
        shapes[f"{root}patch_embed.proj.weight"] = (8, 3, 2, 2)
        shapes[f"{root}patch_embed.proj.bias"] = (8,)
        for block in range(depth):
            shapes[f"{root}blocks.{block}.gamma_1"] = (8,)
            shapes[f"{root}blocks.{block}.norm1.weight"] = (8,)
            shapes[f"{root}blocks.{block}.attn.qkv.weight"] = (24, 8)
            shapes[f"{root}blocks.{block}.attn.qkv.bias"] = (24,)
        shapes[f"{prefix}merge.weights.{branch}"] = ()
    shapes[f"{prefix}interactions.0.units.0.attn.value_proj.weight"] = (4, 8)
    shapes["roi_heads.box_head.fc1.weight"] = (16, 8)
    shapes["roi_heads.box_head.fc1.bias"] = (16,)
    return NamedParameters(shapes)


def scale_by_name(model: nn.Module, groups: Iterable[dict[str, Any]]) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] / LR for group in groups for p in group["params"]}


def decay_by_name(model: nn.Module, groups: Iterable[dict[str, Any]]) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}


def test_every_parameter_is_in_one_group() -> None:
    model = make_model([2, 2, 2])
    groups = get_piip_param_groups(model, base_lr=LR)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_equal_depths_share_one_scale() -> None:
    model = make_model([12, 12, 12])
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.85))
    for branch in range(3):
        root = f"backbone.bottom_up.branches.{branch}."
        # The released TSB recipe: 0.1209 for the embeddings, 0.1422 for block 0, 0.85 for block 11.
        assert scales[root + "pos_embed"] == pytest.approx(0.1209, abs=5e-5)
        assert scales[root + "patch_embed.proj.bias"] == pytest.approx(0.85**13)
        assert scales[root + "blocks.0.gamma_1"] == pytest.approx(0.1422, abs=5e-5)
        assert scales[root + "blocks.11.attn.qkv.weight"] == pytest.approx(0.85)
    assert scales["backbone.bottom_up.merge.weights.0"] == 1.0
    assert scales["backbone.bottom_up.interactions.0.units.0.attn.value_proj.weight"] == 1.0
    assert scales["roi_heads.box_head.fc1.bias"] == 1.0


@pytest.mark.parametrize("prefix", ["backbone.bottom_up.", "backbone.", "", "module.backbone."])
def test_branches_are_found_wherever_they_stand(prefix: str) -> None:
    model = make_model([4, 2], prefix)
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.5))
    assert scales[f"{prefix}branches.0.pos_embed"] == 0.5**5
    assert [scales[f"{prefix}branches.0.blocks.{i}.gamma_1"] for i in range(4)] == [
        0.5**4,
        0.5**3,
        0.5**2,
        0.5,
    ]
    # Two blocks over four steps: ids 2 and 4.
    assert [scales[f"{prefix}branches.1.blocks.{i}.gamma_1"] for i in range(2)] == [0.5**3, 0.5]


def test_group_sizes_of_the_released_tsb() -> None:
    with torch.device("meta"):
        branches = [
            build_vit_branch(preset, img_size=img_size)
            for preset, img_size in [("vit_tiny", 1120), ("vit_small", 896), ("vit_base", 448)]
        ]
        model = build_network(branches)
    # Numbers of tensors and of parameters, counted in the released implementation.
    expected = {
        "layer_0_decay": (6, 1_295_616),
        "layer_0_no_decay": (3, 1_344),
        "layer_13_decay": (396, 61_756_995),
        "layer_13_no_decay": (785, 271_104),
    }
    for layer in range(1, 13):
        expected[f"layer_{layer}_decay"] = (12, 9_289_728)
        expected[f"layer_{layer}_no_decay"] = (30, 20_160)
    groups = get_piip_param_groups(model, base_lr=LR)
    sizes = {g["name"]: (len(g["params"]), sum(p.numel() for p in g["params"])) for g in groups}
    assert sizes == expected


def make_families() -> nn.Module:
    """Uni-Perceiver, BEiT and a ConvNeXt, two blocks or stages each."""
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    with torch.device("meta"):
        branches = [
            UniPerceiverBranch(img_size=64, **sizes),
            BEiTBranch(img_size=64, window_size=2, **sizes),
            ConvNeXtBranch(img_size=64, depths=[1, 1], dims=[32, 32]),
        ]
        model = nn.Module()
        model.branches = nn.ModuleList(branches)
    return model


def test_layers_of_the_families() -> None:
    model = make_families()
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.5))
    layers = {name: 3 + math.log2(scale) for name, scale in scales.items()}
    for name, layer in layers.items():
        if name.startswith("branches.2."):
            expected = 3
        elif ".blocks." in name:
            expected = int(name.split(".")[3]) + 1
        else:
            expected = 0
        assert layer == expected, name
    # What stands in front of the blocks, whatever the family calls it.
    assert {name for name, layer in layers.items() if layer == 0} == {
        "branches.0.pos_embed",
        "branches.0.temporal_embed",
        "branches.0.embed_norm.weight",
        "branches.0.embed_norm.bias",
        *(f"branches.{b}.patch_embed.proj.{part}" for b in (0, 1) for part in ("weight", "bias")),
    }


def test_learned_rotary_positions_are_embeddings() -> None:
    model = nn.Module()
    sizes = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model.branches = nn.ModuleList([TimmBranch("vit_small_patch16_rope_mixed_224", **sizes)])
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.5))
    assert scales["branches.0.rope.freqs"] == scales["branches.0.patch_embed.proj.bias"] == 0.125


def test_tables_of_the_families_are_decayed_and_their_vectors_are_not() -> None:
    model = make_families()
    decays = decay_by_name(model, get_piip_param_groups(model, base_lr=LR))
    root = "branches.1.blocks.1."
    assert decays[root + "attn.relative_position_bias_table"] == 0.05
    assert decays["branches.0.temporal_embed"] == 0.05
    assert decays[root + "attn.q_bias"] == 0.0
    assert decays["branches.0.blocks.1.ls1.gamma"] == 0.0
    assert decays["branches.0.embed_norm.weight"] == 0.0


def test_fractional_strides_are_rounded_down() -> None:
    # 48 and 32 blocks: 1.5 steps each, the published value for the 6B and H networks.
    model = make_model([48, 32, 24])
    given = get_piip_param_groups(model, base_lr=LR, num_layers=48, skip_strides=[1.5, 2.0])
    scales = scale_by_name(model, given)
    root = "backbone.bottom_up.branches.1.blocks."
    for block in range(32):
        layer = math.floor((block + 1) * 1.5)
        assert scales[f"{root}{block}.gamma_1"] == pytest.approx(0.85 ** (49 - layer))
    assert scales == scale_by_name(model, get_piip_param_groups(model, base_lr=LR))


def test_thirds_do_not_lose_a_step_to_rounding() -> None:
    model = make_model([8, 3])
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.5))
    ids = [
        8 + 1 + math.log2(scales[f"backbone.bottom_up.branches.1.blocks.{i}.gamma_1"])
        for i in range(3)
    ]
    assert ids == [2.0, 5.0, 8.0]


def test_weight_decay_spares_vectors_and_biases_only() -> None:
    model = make_model([2, 2])
    decays = decay_by_name(model, get_piip_param_groups(model, base_lr=LR, weight_decay=0.05))
    root = "backbone.bottom_up."
    assert decays[root + "branches.0.blocks.0.gamma_1"] == 0.0
    assert decays[root + "branches.0.blocks.0.norm1.weight"] == 0.0
    assert decays[root + "branches.0.blocks.0.attn.qkv.bias"] == 0.0
    assert decays[root + "branches.0.blocks.0.attn.qkv.weight"] == 0.05
    # Decayed in the released recipe too, which compares unprefixed names.
    assert decays[root + "branches.1.pos_embed"] == 0.05
    assert decays[root + "merge.weights.1"] == 0.05


def test_a_bias_that_is_no_vector_is_spared() -> None:
    model = NamedParameters({"gate.bias": (2, 2), "gate.weight": (2, 2)})
    decays = decay_by_name(model, get_piip_param_groups(model, base_lr=LR))
    assert decays == {"gate.bias": 0.0, "gate.weight": 0.05}


def test_names_can_be_exempted_from_weight_decay() -> None:
    model = make_model([2, 2])
    groups = get_piip_param_groups(model, base_lr=LR, no_decay_names=["pos_embed", "weights"])
    decays = decay_by_name(model, groups)
    assert decays["backbone.bottom_up.branches.0.pos_embed"] == 0.0
    assert decays["backbone.bottom_up.merge.weights.0"] == 0.0
    assert decays["backbone.bottom_up.branches.0.blocks.1.attn.qkv.weight"] == 0.05


def test_a_branch_without_blocks_gets_the_full_rate() -> None:
    model = NamedParameters(
        {
            "branches.0.blocks.1.weight": (2, 2),
            "branches.1.stages.0.weight": (2, 2),
            "branches.1.patch_embed.weight": (2, 2),
        }
    )
    scales = scale_by_name(model, get_piip_param_groups(model, base_lr=LR, layer_decay=0.5))
    assert scales == {
        "branches.0.blocks.1.weight": 0.5,
        "branches.1.stages.0.weight": 1.0,
        "branches.1.patch_embed.weight": 1.0,
    }


def test_any_other_model_gets_the_full_rate() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    groups = get_piip_param_groups(model, base_lr=LR)
    assert [group["name"] for group in groups] == ["layer_1_decay", "layer_1_no_decay"]
    assert {group["lr"] for group in groups} == {LR}
    assert [len(group["params"]) for group in groups] == [2, 4]


def test_frozen_parameters_are_left_out() -> None:
    model = make_model([4, 2])
    frozen = dict(model.named_parameters())["backbone.bottom_up.branches.0.blocks.3.gamma_1"]
    before = scale_by_name(model, get_piip_param_groups(model, base_lr=LR))
    for name, parameter in model.named_parameters():
        if "branches.0.blocks.3." in name:
            parameter.requires_grad = False
    groups = get_piip_param_groups(model, base_lr=LR)
    assert all(frozen is not p for group in groups for p in group["params"])
    # Freezing blocks does not move the others along the scale.
    after = scale_by_name(model, groups)
    assert after == {name: before[name] for name in after}


def test_an_optimizer_takes_the_groups_and_its_state_can_be_reloaded() -> None:
    model = make_model([2, 2])
    optimizer = torch.optim.AdamW(get_piip_param_groups(model, base_lr=LR), lr=LR)
    state = optimizer.state_dict()
    again = torch.optim.AdamW(get_piip_param_groups(model, base_lr=LR), lr=LR)
    again.load_state_dict(state)
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in optimizer.param_groups]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skip_strides": [1]}, r"2 for a model of 3 branches, got 1 \(\[1\]\)"),
        ({"skip_strides": [1, 1, 1]}, r"2 for a model of 3 branches, got 3"),
        ({"skip_strides": [2, 1]}, r"branch 1, 2 steps each, must end .* got 4"),
        ({"skip_strides": [1, -1]}, r"branch 2, -1 steps each"),
        ({"num_layers": 1, "skip_strides": [0.5, 0.5]}, r"branch 0, 1 steps each.* got 2"),
        ({"num_layers": 0}, r"must end between 1 and num_layers \(0\)"),
        ({"layer_decay": 1.5}, r"layer_decay \(1.5\) must lie in \(0, 1\]"),
        ({"layer_decay": 0.0}, r"layer_decay \(0.0\) must lie in \(0, 1\]"),
        ({"no_decay_names": ["pos_embeds"]}, r"\['pos_embeds'\] match no trainable parameter"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_piip_param_groups(make_model([2, 2, 2]), base_lr=LR, **arguments)


def test_a_single_string_of_exempt_names_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a list of names, got the string 'pos_embed'"):
        get_piip_param_groups(make_model([2]), base_lr=LR, no_decay_names="pos_embed")
