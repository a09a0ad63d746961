"""ViT-Adapter's kind of cascade detects what a plain re-implementation of it detects."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import ImageList
from torch import Tensor, nn

from piip_d2.checkpoint import convert_detector_state_dict
from tests.modeling.roi_heads import plain_cascade
from tests.modeling.roi_heads.tiny import (
    NUM_CLASSES,
    build,
    small_config,
    use_4conv1fc,
    use_mmdet_behaviour,
)

SIZES = ((96, 128), (80, 100))
NUM_PROPOSALS = 40
HEADS = [f"roi_head.bbox_head.{stage}" for stage in range(3)]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(11)
    weights = plain_cascade.random_weights(
        channels=16, fc_dim=24, mask_dim=12, num_classes=NUM_CLASSES
    )
    # Without this some classes are the most probable ones of every region.
    regions = regions_of(weights)
    for name in HEADS:
        logits, _ = plain_cascade.box_head(weights, name, regions)
        weights[f"{name}.fc_cls.bias"] -= logits.mean(dim=0)
        weights[f"{name}.fc_cls.bias"][-1] += 1.0
    return weights


@pytest.fixture(scope="module")
def model(weights: dict[str, Tensor]) -> GeneralizedRCNN:
    cfg = small_config()
    use_4conv1fc(cfg)
    use_mmdet_behaviour(cfg)
    cfg.proposal_generator.pre_nms_topk = [NUM_PROPOSALS] * 2
    cfg.proposal_generator.post_nms_topk = [NUM_PROPOSALS] * 2
    model = build(cfg)
    converted = convert_detector_state_dict(weights, "cascade_mask_rcnn")
    missing, unexpected = model.load_state_dict(converted, strict=False)
    assert unexpected == [] and all(name.startswith("backbone.") for name in missing)
    return model.eval()


def make_maps(num_images: int) -> list[Tensor]:
    torch.manual_seed(12)
    return [torch.randn(num_images, 16, 128 // s, 128 // s) for s in plain_cascade.STRIDES]


def regions_of(weights: dict[str, Tensor]) -> Tensor:
    maps = make_maps(1)
    return plain_cascade.crop(
        maps, plain_cascade.propose(weights, maps, SIZES[0], NUM_PROPOSALS), 7
    )


@torch.no_grad()
def test_detections(model: GeneralizedRCNN, weights: dict[str, Tensor]) -> None:
    maps = make_maps(len(SIZES))
    features = {f"p{level}": x for level, x in enumerate(maps, start=2)}
    images = ImageList(torch.zeros(len(SIZES), 3, 128, 128), list(SIZES))
    proposals, _ = model.proposal_generator(images, features)
    found, _ = model.roi_heads(images, features, proposals)
    for number, (of_image, size) in enumerate(zip(found, SIZES, strict=True)):
        expected = plain_cascade.detect(
            weights, [x[number : number + 1] for x in maps], size, NUM_PROPOSALS
        )
        assert len(expected.scores) > 50 and len(expected.labels.unique()) > 4
        assert torch.equal(of_image.pred_classes, expected.labels)
        # Rounding: the plain program moves boxes in float64, and its norms divide by a root where
        # the network multiplies. It makes 1.0e-6 of scores, 3.8e-5 pixels and 7.0e-6 of masks.
        torch.testing.assert_close(of_image.scores, expected.scores, atol=2e-6, rtol=0)
        torch.testing.assert_close(of_image.pred_boxes.tensor, expected.boxes, atol=1e-4, rtol=0)
        torch.testing.assert_close(of_image.pred_masks[:, 0], expected.masks, atol=1e-5, rtol=0)


def test_heads(model: GeneralizedRCNN) -> None:
    heads = model.roi_heads
    assert [len(rpn_conv) for rpn_conv in [model.proposal_generator.rpn_head.conv]] == [2]
    for head, predictor in zip(heads.box_head, heads.box_predictor, strict=True):
        assert len(head.conv_norm_relus) == 4 and len(head.fcs) == 1
        assert all(isinstance(conv.norm, nn.SyncBatchNorm) for conv in head.conv_norm_relus)
        assert predictor.bbox_pred.out_features == 4 * NUM_CLASSES
        assert predictor.box_reg_loss_type == "giou"
        assert predictor.loss_weight == {"loss_box_reg": 10.0}


@torch.no_grad()
def test_background_is_often_the_most_probable(weights: dict[str, Tensor]) -> None:
    """And the test above would see it if it then chose a box."""
    regions = regions_of(weights)
    for name in HEADS[:-1]:
        logits, _ = plain_cascade.box_head(weights, name, regions)
        assert 0.2 < (logits.argmax(dim=1) == NUM_CLASSES).float().mean() < 0.9
