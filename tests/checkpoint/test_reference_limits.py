"""Networks for which the reference has no class are refused before they get its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.checkpoint import build_from_official
from piip_d2.checkpoint.backbone_weights import read_layout
from piip_d2.checkpoint.network_layout import layout_of_network
from piip_d2.modeling.backbone import build_network
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.patch_embed import ConvStem
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch
from tests.oracle.configurations import CONVNEXT_SIZES, oracle_cases

SIZES = (160, 128, 96, 64, 32)
ORACLE_CASES = oracle_cases()


def transformer(
    img_size: int, kind: type[Branch] = ViTBranch, width: int = 32, **options: Any
) -> Branch:
    if kind is BEiTBranch:
        options = {"window_size": 2, **options}
    sizes = {"embed_dim": width, "depth": 2, "num_heads": 2}
    return kind(img_size=img_size, **{**sizes, **options})  # type: ignore[arg-type]


def convnext(img_size: int) -> Branch:
    return ConvNeXtBranch(img_size=img_size, depths=[1, 1, 1, 1], dims=[32, 32, 32, 32])


def vits(count: int, **options: Any) -> list[Branch]:
    """Largest resolution first, the first with these options."""
    first, *others = SIZES[:count]
    return [transformer(first, **options), *map(transformer, others)]


def layout(branches: list[Branch], **options: Any) -> Any:
    options = {"num_interactions": 2, "num_heads": 2, **options}
    with torch.device("meta"):
        return layout_of_network(build_network(branches, **options))


ALONE = {"num_interactions": 0, "merge": "none", "feature_norm": "layer"}
BY_STAGE = {"merge": "single_conv", "out_interactions": [0, 1, 2], "num_interactions": 4}


def test_true_fourth_branch_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Its weights have names; the class that reads them has to be corrected."""
    network = build_network(vits(4, width=16), num_interactions=2, num_heads=4)
    assert layout_of_network(network).families == ("vit_models",) * 4
    assert "builds the fourth branch like the third" in caplog.text


@pytest.mark.parametrize(
    ("branches", "options", "message"),
    [
        (vits(2), {"directions": "alternating"}, 'names for directions="adjacent" alone'),
        (vits(2), {"merged_branches": [0]}, "networks alone that merge all branches"),
        (vits(3), {"merge": "light"}, "this network has a LightBranchMerge"),
        (vits(3), {"merge": "single_conv"}, "this network has a SingleConvBranchMerge"),
        (vits(3), {"merge_dim": 64}, r"the lowest resolution \(32, .* but this network to 64"),
        (vits(3), {"feature_norm": "layer"}, r'group norms \(feature_norm="group"\)'),
        (vits(3), {"out_features": ["res4"]}, r"the maps .* or .*'res5'\), but this .*'res4'"),
        (vits(3), {"num_interactions": 0}, "no pyramids without interactions"),
        (vits(3), {"with_ffn": False}, "no interactions without ConvFFNs"),
        (
            vits(3),
            {"interaction_block_indexes": [[0], [1], [1]]},
            "follows number 0 of the 2 blocks at 160 pixels",
        ),
        (vits(5), {}, "networks of at most 4 branches, but this one has 5"),
        (vits(2, patch_embed=ConvStem(32)), {}, "the branch at 160 pixels has a ConvStem"),
        (vits(2, norm="rms"), {}, 'is a vit_models to the reference, which has no norm="rms"'),
        (vits(2, qk_norm=True), {}, "which has no qk_norm=True"),
        (vits(2, norm_eps=1e-5), {}, "which has no norm_eps=1e-05"),
        (vits(2, init_values=None), {}, "which has no init_values=None"),
        (
            vits(2, drop_path_schedule="linear", window_padding="after_qkv"),
            {},
            'is a InternViT6B to the reference, which has no window_padding="after_qkv"',
        ),
        (vits(3, kind=BEiTBranch, act="gelu_tanh"), {}, 'BEiT .* no act="gelu_tanh"'),
        (vits(2, width=64), {}, r"channels must not grow .* of 2 branches, .*\[32, 64\]"),
        (vits(3, kind=UniPerceiverBranch), {}, "cannot have the highest resolution"),
        (
            [transformer(64), transformer(32, UniPerceiverBranch)],
            {},
            "cannot have the lowest resolution in the reference's networks of 2",
        ),
        (
            [*vits(2), transformer(64, UniPerceiverBranch, qkv_bias=False)],
            {},
            "which has no qkv_bias=False",
        ),
        ([*vits(1), transformer(64, patch_size=8)], {}, r"16 pixels .* have \[8, 16\]"),
        ([*vits(1), convnext(64)], {}, "ConvNeXt branches in networks of three branches alone"),
        ([convnext(160), convnext(128), convnext(96)], BY_STAGE | {"merge": "conv"}, "BranchMerge"),
        ([transformer(64, depth=4)] * 2, BY_STAGE, "three branches alone, but this one has 2"),
        (vits(1), ALONE | {"merge": "conv"}, "without a merge .* with a BranchMerge"),
        (vits(1), ALONE | {"feature_norm": "group"}, "with layer norms"),
        (vits(1), ALONE | {"out_features": ["res4"]}, "single networks give the maps"),
        (vits(1, kind=BEiTBranch), ALONE, "but this is a BEiT"),
        ([convnext(64)], ALONE | {"out_features": ["res5"]}, "single networks give the maps"),
    ],
)
def test_what_the_reference_has_no_class_for(
    branches: list[Branch], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        layout(branches, **options)


@pytest.mark.parametrize(
    ("branches", "options"),
    [
        (vits(2, depth=4), {}),
        (vits(2, norm="rms", drop_path_schedule="linear"), {}),
        (vits(2, window_padding="after_qkv", act="gelu_tanh"), {}),
        (vits(3, kind=BEiTBranch), {}),
        (vits(3, width=64), {}),
        ([*vits(2), transformer(64, UniPerceiverBranch)], {}),
        ([*vits(2), convnext(64)], {}),
        ([convnext(160), convnext(128), convnext(96)], BY_STAGE),
        (vits(3), {"out_features": ["res3", "res4", "res5"]}),
        (vits(4), {}),
        (vits(1), ALONE),
    ],
)
def test_what_the_reference_has_a_class_for(
    branches: list[Branch], options: dict[str, Any]
) -> None:
    assert len(layout(branches, **options).families) == len(branches)


@pytest.mark.parametrize("name", list(ORACLE_CASES))
def test_what_it_builds_it_can_express(name: str) -> None:
    config = ORACLE_CASES[name].config
    network = build_from_official(
        config, four_branch=ORACLE_CASES[name].four_branch, convnext_sizes=CONVNEXT_SIZES
    )
    assert layout_of_network(network) == read_layout(config)
