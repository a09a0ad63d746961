"""DINO trains and detects on every kind of backbone that Detectron2 has, and on ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.modeling import Backbone, SimpleFeaturePyramid, SwinTransformer, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicStem, ResNet

from piip_d2.engine.build import enable_activation_checkpointing
from piip_d2.modeling import DINO, PIIP, PIIPFPN, ChannelMapper, build_piip
from piip_d2.modeling.backbone import ViTBranch
from tests.modeling.dino.tiny import build_small_model, disturb, make_input

NUM_LOSSES = 3 * (3 + 1 + 3)
Made = tuple[Backbone, list[str]]


def piip(drop_path_rate: float = 0.0) -> Made:
    branches = [
        ViTBranch(
            img_size=size,
            embed_dim=width,
            depth=2,
            num_heads=2,
            window_size=3,
            drop_path_rate=drop_path_rate,
        )
        for size, width in ((128, 16), (64, 32))
    ]
    names = ["res3", "res4", "res5"]
    network = build_piip(
        branches,
        num_interactions=2,
        num_heads=2,
        out_features=names,
        size_divisibility=128,
        interaction_drop_path_rate=drop_path_rate,
    )
    return network, names


def piip_fpn() -> Made:
    network, names = piip()
    assert isinstance(network, PIIP)
    return PIIPFPN(network, names, 16, top_block=LastLevelMaxPool()), ["p3", "p4", "p5", "p6"]


def resnet_50() -> Made:
    names = ["res3", "res4", "res5"]
    stages = ResNet.make_default_stages(50, norm="FrozenBN")
    return ResNet(BasicStem(3, 64, norm="FrozenBN"), stages, out_features=names), names


def swin() -> Made:
    network = SwinTransformer(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_indices=(1, 2, 3)
    )
    return network, ["p1", "p2", "p3"]


def plain_vit() -> Made:
    network = ViT(img_size=64, embed_dim=16, depth=1, num_heads=2, use_rel_pos=False)
    return network, ["last_feat"]


def vitdet() -> Made:
    pyramid = SimpleFeaturePyramid(
        net=plain_vit()[0],
        in_feature="last_feat",
        out_channels=16,
        scale_factors=(2.0, 1.0, 0.5),
        norm="LN",
        square_pad=128,
    )
    return pyramid, ["p3", "p4", "p5"]


def on(made: Made) -> DINO:
    model = build_small_model()
    model.backbone = ChannelMapper(*made, 32, num_groups=8)
    return model


@pytest.mark.parametrize("make", [piip, piip_fpn, resnet_50, swin, plain_vit, vitdet])
def test_trains_and_detects(make: Callable[[], Made]) -> None:
    torch.manual_seed(0)
    model = on(make()).train()
    batch = [make_input((60, 100), 2), make_input((96, 64), 0)]
    losses = model(batch)
    assert len(losses) == NUM_LOSSES and all(x.isfinite() for x in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    with torch.no_grad():
        found = model.eval()(batch)
    assert [x["instances"].image_size for x in found] == [(60, 100), (96, 64)]
    assert all(len(x["instances"]) > 0 for x in found)


def test_recomputation_of_all_parts_changes_nothing() -> None:
    results = []
    for is_on in (False, True):
        torch.manual_seed(0)
        model = on(piip(drop_path_rate=0.3)).train()
        disturb(model)
        if is_on:
            # Two branches, the interactions, encoder and decoder.
            assert enable_activation_checkpointing(model) == 5
        torch.manual_seed(1)
        losses = model([make_input((100, 128), 2)])
        torch.stack(list(losses.values())).sum().backward()
        results.append((losses, {name: p.grad for name, p in model.named_parameters()}))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=0, rtol=0)


@torch.no_grad()
def test_two_images_of_a_batch_on_a_pyramid_are_as_one_by_one() -> None:
    torch.manual_seed(0)
    model = on(piip()).eval()
    disturb(model)
    # Both are padded to 128 x 128, alone and together.
    batch = [make_input((100, 128), 0), make_input((128, 70), 0)]
    assert model.preprocess_images(batch).tensor.shape[-2:] == (128, 128)
    for one_input, expected in zip(batch, model(batch), strict=True):
        assert model.preprocess_images([one_input]).tensor.shape[-2:] == (128, 128)
        found, wanted = model([one_input])[0]["instances"], expected["instances"]
        assert len(found) == len(wanted) > 0
        assert torch.equal(found.pred_classes, wanted.pred_classes)
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-4, rtol=0)
        boxes, wanted_boxes = found.pred_boxes.tensor, wanted.pred_boxes.tensor
        torch.testing.assert_close(boxes, wanted_boxes, atol=1e-4, rtol=0)
