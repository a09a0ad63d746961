"""mmdetection's Cascade Mask R-CNN: the same proposals, detections and masks from its weights."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from torch import Tensor

from piip_d2.checkpoint import convert_detector_state_dict
from tests.modeling.roi_heads.tiny import (
    NUM_STAGES,
    build,
    load_golden,
    small_config,
    use_mmdet_behaviour,
)


@pytest.fixture(scope="module")
def model() -> GeneralizedRCNN:
    cfg = small_config(channels=32, fc_dim=48, mask_dim=24, backbone_channels=16)
    cfg.proposal_generator.pre_nms_topk = [2000, 1000]
    use_mmdet_behaviour(cfg)
    model = build(cfg)
    weights = convert_detector_state_dict(load_golden()["state_dict"], "cascade_mask_rcnn")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert all(name.startswith("backbone.bottom_up.") for name in missing)
    return model.eval()


@pytest.fixture(scope="module")
def images() -> ImageList:
    golden = load_golden()
    return ImageList(torch.zeros(1, 3, *golden["pad"]), [tuple(golden["image_size"])])


@pytest.fixture(scope="module")
def maps(model: GeneralizedRCNN, images: ImageList) -> dict[str, Tensor]:
    stored = dict(zip(model.backbone.in_features, load_golden()["backbone_feats"], strict=True))
    model.backbone.bottom_up.forward = lambda _: stored
    with torch.no_grad():
        return model.backbone(images.tensor)


@pytest.fixture(scope="module")
def found(model: GeneralizedRCNN, images: ImageList, maps: dict[str, Tensor]) -> Instances:
    return detect(model, images, maps)


@torch.no_grad()
def detect(model: GeneralizedRCNN, images: ImageList, maps: dict[str, Tensor]) -> Instances:
    proposals, _ = model.proposal_generator(images, maps)
    (detections,), _ = model.roi_heads(images, maps, proposals)
    return detections


def test_maps_and_proposals(
    model: GeneralizedRCNN, images: ImageList, maps: dict[str, Tensor]
) -> None:
    for x, expected in zip(maps.values(), load_golden()["neck"], strict=True):
        torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        (proposals,), _ = model.proposal_generator(images, maps)
    expected = load_golden()["proposals"][:, :4]
    assert len(proposals) == len(expected)
    distances = torch.cdist(proposals.proposal_boxes.tensor, expected, p=float("inf"))
    assert max(distances.amin(dim=0).max(), distances.amin(dim=1).max()) < 1e-4


def test_detections(found: Instances) -> None:
    golden = load_golden()
    ours = order(found.pred_boxes.tensor, found.pred_classes)
    theirs = order(golden["dets"][:, :4], golden["labels"])
    assert torch.equal(found.pred_classes[ours], golden["labels"][theirs])
    boxes, scores = golden["dets"][theirs].split([4, 1], dim=1)
    torch.testing.assert_close(found.pred_boxes.tensor[ours], boxes, atol=1e-4, rtol=0)
    # Rounding of the stored ones: they differ by 2.2e-6, and with arithmetic in float64 by 2.9e-6.
    differences = (found.scores[ours] - scores[:, 0]).abs()
    assert differences.quantile(0.9) < 1e-6 and differences.max() < 5e-6
    mean = golden["masks"].mean(dim=0)[theirs]
    torch.testing.assert_close(found.pred_masks[ours, 0], mean, atol=1e-5, rtol=0)


def test_masks_of_every_stage(
    model: GeneralizedRCNN, maps: dict[str, Tensor], found: Instances
) -> None:
    theirs = order(load_golden()["dets"][:, :4], load_golden()["labels"])
    ours = order(found.pred_boxes.tensor, found.pred_classes)
    heads = model.roi_heads
    regions = heads.mask_pooler([maps[f] for f in heads.mask_in_features], [found.pred_boxes])
    for stage in range(NUM_STAGES):
        with torch.no_grad():
            (of_stage,) = heads.mask_head[stage](regions, [copy.copy(found)])
        expected = load_golden()["masks"][stage][theirs]
        torch.testing.assert_close(of_stage.pred_masks[ours, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("difference", ["score_average", "weights"])
def test_each_exactness_is_needed(
    difference: str,
    model: GeneralizedRCNN,
    images: ImageList,
    maps: dict[str, Tensor],
    found: Instances,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if difference == "score_average":
        monkeypatch.setattr(model.roi_heads, "score_average", "probs")
        other = detect(model, images, maps)
        assert (other.scores.sum() - found.scores.sum()).abs() > 1e-3
    else:
        transform = model.roi_heads.box_predictor[-1].box2box_transform
        monkeypatch.setattr(transform, "weights", [30.0, 30.0, 15.0, 15.0])
        other = detect(model, images, maps)
        # No box moves far, but nearly all do.
        distances = torch.cdist(other.pred_boxes.tensor, found.pred_boxes.tensor, p=float("inf"))
        assert 1e-3 < distances.amin(dim=1).median() < 0.2


def order(boxes: Tensor, labels: Tensor) -> Tensor:
    """A random network has many equal scores: an order by class and box instead."""
    rows = [(int(label), *map(float, box)) for box, label in zip(boxes, labels, strict=True)]
    return torch.tensor(sorted(range(len(rows)), key=rows.__getitem__))
