"""PIIP and PIIPFPN as Detectron2 sees them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, LazyCall, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import ImageList

from piip_d2.config import add_piip_config
from piip_d2.modeling import PIIP, PIIPFPN, build_piip
from piip_d2.modeling.backbone import PIIPNetwork, ViTBranch


def lazy_branch(img_size: int, embed_dim: int) -> Any:
    return LazyCall(ViTBranch)(
        img_size=img_size, embed_dim=embed_dim, depth=2, num_heads=2, window_size=3
    )


def lazy_piip(**options: Any) -> Any:
    return LazyCall(build_piip)(
        branches=[lazy_branch(128, 32), lazy_branch(64, 64)],
        num_interactions=2,
        num_heads=4,
        **{"size_divisibility": 64, **options},
    )


def yacs_config(name: str) -> CfgNode:
    cfg = get_cfg()
    add_piip_config(cfg)
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.PIIP.SIZE_DIVISIBILITY = 448
    return cfg


@pytest.mark.parametrize("name", ["PIIP", "PIIPFPN"])
def test_registered_and_buildable_from_yacs(name: str) -> None:
    assert name in BACKBONE_REGISTRY
    with torch.device("meta"):
        backbone = build_backbone(yacs_config(name))
        outputs = backbone(torch.zeros(1, 3, 448, 448))
    assert backbone.size_divisibility == 448
    assert backbone.padding_constraints == {"size_divisibility": 448, "square_size": 0}
    for feature, shape in backbone.output_shape().items():
        side = 448 // shape.stride
        assert outputs[feature].shape == (1, shape.channels, side, side)


def test_mistakes_in_yacs_keys() -> None:
    with pytest.raises(ValueError, match=r"call piip_d2.config.add_piip_config\(cfg\) first"):
        PIIP.from_config(get_cfg(), ShapeSpec(channels=3))
    cfg = yacs_config("PIIP")
    cfg.MODEL.PIIP.WINDOW_SIZES = [14, 14]
    with pytest.raises(ValueError, match=r"one entry per branch each, .*WINDOW_SIZES': 2"):
        build_backbone(cfg)


def test_default_yacs_model_is_tsb() -> None:
    with torch.device("meta"):
        backbone = build_backbone(yacs_config("PIIP"))
    assert sum(p.numel() for p in backbone.parameters()) == 175_043_715


def test_other_families_by_yacs_keys() -> None:
    """ConvNeXt, Uni-Perceiver and BEiT side by side, merged behind four interactions."""
    cfg = yacs_config("PIIP")
    cfg.MODEL.PIIP.BRANCHES = ["convnext_tiny", "uniperceiver_base", "beitv2_base"]
    cfg.MODEL.PIIP.WINDOW_SIZES = [0, 14, 14]
    cfg.MODEL.PIIP.INTERACTION_BLOCK_INDEXES = [[2, 6, 16, 20], [2, 5, 8, 11], [2, 5, 8, 11]]
    cfg.MODEL.PIIP.OUT_INTERACTIONS = [0, 1, 2]
    cfg.MODEL.PIIP.MERGE = "single_conv"
    cfg.MODEL.PIIP.MERGED_BRANCHES = [0, 2]
    cfg.MODEL.PIIP.DIRECTIONS = "all_pairs"
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    assert {name: spec.stride for name, spec in backbone.output_shape().items()} == {
        "res2": 4,
        "res3": 8,
        "res4": 16,
        "res5": 32,
    }
    assert backbone.merge.merged == [0, 2]
    assert backbone.interactions[0].pairs == [(0, 1), (0, 2), (1, 2)]
    assert list(backbone.stage_merges) == ["0", "1", "2"]


def test_buildable_from_lazy_config() -> None:
    piip = instantiate(lazy_piip())
    assert isinstance(piip, PIIP)
    assert {name: spec.stride for name, spec in piip.output_shape().items()} == {
        "res2": 4,
        "res3": 8,
        "res4": 16,
        "res5": 32,
    }
    assert {spec.channels for spec in piip.output_shape().values()} == {64}


def test_the_plain_network_has_the_same_names() -> None:
    piip = instantiate(lazy_piip())
    network = PIIPNetwork(
        branches=list(piip.branches),
        interaction_block_indexes=piip.interaction_block_indexes,
        interactions=list(piip.interactions),
        merge=piip.merge,
        feature_maps=piip.feature_maps,
    )
    assert list(network.state_dict()) == list(piip.state_dict())


def test_padding_reaches_the_image_list() -> None:
    """Detectron2's own FPN would pad 70 x 130 to multiples of its coarsest stride alone."""
    fpn = PIIPFPN(
        instantiate(lazy_piip()),
        ["res2", "res3", "res4", "res5"],
        32,
        top_block=LastLevelMaxPool(),
    )
    images = ImageList.from_tensors(
        [torch.zeros(3, 70, 130)],
        fpn.size_divisibility,
        padding_constraints=fpn.padding_constraints,
    )
    assert images.tensor.shape[-2:] == (128, 192)
    outputs = fpn(images.tensor)
    for name, spec in fpn.output_shape().items():
        assert outputs[name].shape == (1, 32, 128 // spec.stride, 192 // spec.stride)


def test_square_padding_reaches_the_image_list() -> None:
    piip = instantiate(lazy_piip(square_size=256))
    images = ImageList.from_tensors(
        [torch.zeros(3, 70, 130)],
        piip.size_divisibility,
        padding_constraints=piip.padding_constraints,
    )
    assert images.tensor.shape[-2:] == (256, 256)


def test_size_divisibility_must_suit_the_coarsest_stride() -> None:
    with pytest.raises(ValueError, match=r"multiple of the coarsest stride \(32\), got 48"):
        instantiate(lazy_piip(size_divisibility=48))
