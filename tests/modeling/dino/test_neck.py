"""The neck on backbones of Detectron2, and the padding that they ask for."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from detectron2.structures import ImageList

from piip_d2.modeling import ChannelMapper
from tests.modeling.dino.tiny import SmallBackbone


def resnet() -> tuple[Backbone, list[str]]:
    stages = ResNet.make_default_stages(18, norm="BN")
    names = ["res3", "res4", "res5"]
    return ResNet(BasicStem(3, 64, norm="BN"), stages, out_features=names), names


def swin() -> tuple[Backbone, list[str]]:
    network = SwinTransformer(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_indices=(1, 2, 3)
    )
    return network, ["p1", "p2", "p3"]


def vitdet() -> tuple[Backbone, list[str]]:
    network = ViT(img_size=64, embed_dim=16, depth=1, num_heads=2, use_rel_pos=False)
    pyramid = SimpleFeaturePyramid(
        net=network,
        in_feature="last_feat",
        out_channels=16,
        scale_factors=(2.0, 1.0, 0.5),
        norm="LN",
        square_pad=128,
    )
    return pyramid, ["p3", "p4", "p5"]


@pytest.mark.parametrize("make", [resnet, swin, vitdet])
@torch.no_grad()
def test_any_backbone(make) -> None:
    backbone, names = make()
    neck = ChannelMapper(backbone, names, 32, num_groups=4)
    images = ImageList.from_tensors(
        [torch.zeros(3, 70, 100)],
        neck.size_divisibility,
        padding_constraints=neck.padding_constraints,
    )
    maps = neck(images.tensor)
    assert list(maps) == list(neck.output_shape()) == ["p3", "p4", "p5", "p6"]
    for x, (name, shape) in zip(maps.values(), neck.output_shape().items(), strict=True):
        assert shape == ShapeSpec(channels=32, stride=2 ** int(name[1]))
        sides = [-(-side // shape.stride) for side in images.tensor.shape[-2:]]
        assert list(x.shape) == [1, 32, *sides]


def test_padding_is_handed_on_under_its_right_name() -> None:
    neck = ChannelMapper(*vitdet(), 32, num_groups=4)
    assert neck.padding_constraints["size_divisibility"] == 32
    assert neck.padding_constraints["square_size"] == 128


def test_more_levels_are_made_from_each_other() -> None:
    neck = ChannelMapper(SmallBackbone(), ["res4", "res5"], 32, num_levels=5, num_groups=4)
    assert [conv.conv.in_channels for conv in neck.extra_convs] == [12, 32, 32]
    maps = neck(torch.zeros(1, 3, 128, 192))
    assert [tuple(x.shape[2:]) for x in maps.values()] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


@pytest.mark.parametrize("names", [[], ["res7"], ["res2", "res3", "res4", "res5", "res5"]])
def test_wrong_features_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="in_features must be up to num_levels"):
        ChannelMapper(SmallBackbone(), names)


@pytest.mark.parametrize("names", [["res4", "res3"], ["res3", "res3"]])
def test_maps_must_stand_finest_first(names: list[str]) -> None:
    with pytest.raises(ValueError, match="must stand finest first"):
        ChannelMapper(SmallBackbone(), names, 32, num_groups=4)
