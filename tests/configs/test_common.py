"""What experiments share, beyond what the released configurations use of it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from detectron2.config import instantiate

from tests.configs.loading import load

TSB = "mask_rcnn/piip_tsb_1120_896_448_1x"
HYBRID = "mask_rcnn/piip_ct_vs_cb_1024_672_448_1x"


def common(module: str) -> Any:
    return importlib.import_module(f"piip_d2.configs.common.{module}")


def test_scales_grow_with_the_largest_resolution() -> None:
    # The released DINO of 1792 pixels.
    cfg = load(TSB)
    branches = common("models.branches").sbl([1792, 1120, 672])
    common("pyramid").set_multi_scale_pyramid(
        cfg.model, cfg.dataloader, branches, size_divisibility=224
    )
    _, scales = cfg.dataloader.train.mapper.augmentations
    assert scales.short_edge_lengths == list(range(840, 1401, 56))
    assert (scales.max_size, scales.max_crop) == (2332, 1792)
    assert scales.zoom_short_edge_lengths == [700, 875, 1050]
    assert scales.zoom_crop_range == [672, 1050]
    (resize,) = cfg.dataloader.test.mapper.augmentations
    assert (resize.short_edge_length, resize.max_size) == (1400, 2332)
    assert cfg.model.backbone.bottom_up.size_divisibility == 224
    instantiate(scales)


def test_unknown_setting_of_the_network_is_refused() -> None:
    cfg = load(TSB)
    branches = common("models.branches").tsb([640, 512, 256])
    with pytest.raises(ValueError, match="no setting 'interactions'; it has .*num_interactions"):
        common("pyramid").set_pyramid(cfg.model, cfg.dataloader, branches, interactions=3)


@pytest.mark.parametrize("as_released", [False, True])
def test_four_branches_in_both_forms(as_released: bool) -> None:
    branches = common("models.branches").tsbl([1344, 896, 672, 448], as_released=as_released)
    widths = [384 if as_released else 192, 384, 768, 1024]
    assert [branch.embed_dim for branch in branches] == widths
    assert [branch.img_size for branch in branches] == [1344, 896, 672, 448]


@pytest.mark.parametrize(
    ("module", "function", "arguments", "message"),
    [
        ("branches", "branch", ("vit_enormous", 640), "no network named 'vit_enormous'; there are"),
        (
            "branches",
            "tsb",
            ([640, 320],),
            r"needs 3 image sizes, one per branch, got \[640, 320\]",
        ),
        ("families", "h6b", ([640],), r"needs 2 image sizes, one per branch, got \[640\]"),
    ],
)
def test_wrong_branches_are_refused(
    module: str, function: str, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(common(f"models.{module}"), function)(*arguments)


def test_unknown_initials_are_refused() -> None:
    with pytest.raises(ValueError, match="initials must be some of t, s, b, l, got 'xsb'"):
        common("models.branches").deit("xsb", [640, 320, 160], window_size=14)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ct_vs_vx", "no backbone named 'piip_ct_vs_vx'; did you mean piip_"),
        ("ct_vs", "no backbone named 'piip_ct_vs'; did you mean piip_ct_vs_vb"),
    ],
)
def test_wrong_hybrids_are_refused(names: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        common("models.hybrid").set_networks(load(HYBRID).model, names, [640, 320, 160])
