"""Usual networks by name: sizes, and that nothing but known names is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.presets import BRANCH_PRESETS, VIT_PRESETS, build_branch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch

TINY, SMALL, BASE, LARGE = 5_528_256, 21_673_344, 85_814_016, 303_346_688
# The released tables of these two have a row for the class token, which no branch uses.
HUGE, SIX_BILLION = 630_996_480 - 1280, 5_903_174_400 - 3200
# Cells of the position table: 24 x 24 or 32 x 32 in place of 14 x 14.
MORE_AT_384, MORE_AT_518 = 24**2 - 14**2, 32**2 - 14**2

NUM_PARAMETERS = {
    "vit_tiny": TINY,
    "vit_small": SMALL,
    "vit_base": BASE,
    "vit_large": LARGE,
    "vit_huge": HUGE,
    "deit_tiny": TINY,
    "deit3_small": SMALL,
    "deit3_base": BASE,
    "deit3_large": LARGE,
    "deit3_small_384": SMALL + 384 * MORE_AT_384,
    "deit3_base_384": BASE + 768 * MORE_AT_384,
    "deit3_large_384": LARGE + 1024 * MORE_AT_384,
    "augreg_tiny_384": TINY + 192 * MORE_AT_384,
    "augreg_small_384": SMALL + 384 * MORE_AT_384,
    "augreg_base_384": BASE + 768 * MORE_AT_384,
    "augreg_large_384": LARGE + 1024 * MORE_AT_384,
    "mae_base": BASE,
    "mae_large": LARGE,
    "mae_huge": HUGE,
    "dinov2_small": SMALL + 384 * MORE_AT_518,
    "dinov2_base": BASE + 768 * MORE_AT_518,
    "dinov2_large": LARGE + 1024 * MORE_AT_518,
    # No position table and no bias of the keys, but a table of (2 * 14 - 1)^2 biases per block.
    "beitv2_base": BASE - 768 * 196 - 12 * 768 + 12 * 27**2 * 12,
    "beitv2_large": LARGE - 1024 * 196 - 24 * 1024 + 24 * 27**2 * 16,
    # The embedding of the first frame, and a norm.
    "uniperceiver_base": BASE + 3 * 768,
    "uniperceiver_large": LARGE + 3 * 1024,
    # timm's networks without head and last norm.
    "convnext_tiny": 28_589_128 - 769_000 - 2 * 768,
    "convnext_small": 50_223_688 - 769_000 - 2 * 768,
    "convnext_base": 88_591_464 - 1_025_000 - 2 * 1024,
    "convnext_large": 197_767_336 - 1_537_000 - 2 * 1536,
    "intern_vit_6b": SIX_BILLION,
}


def build_on_meta(preset: str, **options: Any) -> Any:
    if preset.startswith("beit"):
        options = {"window_size": 14, **options}
    with torch.device("meta"):
        return build_branch(preset, img_size=224, **options)


@pytest.mark.parametrize("preset", BRANCH_PRESETS)
def test_number_of_parameters(preset: str) -> None:
    branch = build_on_meta(preset)
    assert sum(p.numel() for p in branch.parameters()) == NUM_PARAMETERS[preset]


@pytest.mark.parametrize(
    ("preset", "number"), [("beitv2_base", 86_089_872), ("beitv2_large", 304_283_008)]
)
def test_number_of_parameters_with_the_released_windows(preset: str, number: int) -> None:
    branch = build_on_meta(preset, window_size=28)
    assert sum(p.numel() for p in branch.parameters()) == number


def test_every_preset_has_a_number() -> None:
    assert list(BRANCH_PRESETS) == list(NUM_PARAMETERS)


@pytest.mark.parametrize(
    ("preset", "branch_type"),
    [
        ("deit3_base", ViTBranch),
        ("intern_vit_6b", ViTBranch),
        ("beitv2_base", BEiTBranch),
        ("uniperceiver_base", UniPerceiverBranch),
        ("convnext_tiny", ConvNeXtBranch),
    ],
)
def test_types(preset: str, branch_type: type) -> None:
    assert type(build_on_meta(preset)) is branch_type


@pytest.mark.parametrize(
    ("preset", "schedule"),
    [
        ("vit_base", "constant"),
        ("deit_tiny", "constant"),
        ("deit3_large_384", "constant"),
        ("mae_base", "linear"),
        ("augreg_small_384", "linear"),
        ("dinov2_base", "linear"),
        ("intern_vit_6b", "linear"),
        ("beitv2_large", "linear"),
        ("uniperceiver_base", "linear"),
    ],
)
def test_stochastic_depth(preset: str, schedule: str) -> None:
    branch = build_on_meta(preset, drop_path_rate=0.3)
    assert branch.drop_path_schedule == schedule
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in branch.blocks]
    assert rates[0] == (0.0 if schedule == "linear" else 0.3)
    assert rates[-1] == pytest.approx(0.3)


def test_options_replace_those_of_the_preset() -> None:
    branch = build_on_meta("dinov2_small", depth=2, pretrain_img_size=224, window_size=[14, None])
    assert branch.num_blocks == 2
    assert branch.pos_embed.shape == (1, 196, 384)
    assert [block.attn.window_size for block in branch.blocks] == [14, None]


def test_plain_sizes_have_one_source() -> None:
    for name, size in VIT_PRESETS.items():
        assert BRANCH_PRESETS[name].options == size


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="preset must be one of .*'beitv2_base'.* got 'swin'"):
        build_branch("swin", img_size=224)
