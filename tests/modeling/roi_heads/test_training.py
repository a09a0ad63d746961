"""What stages learn from: weights, gradients, proposals, classes and masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor

from piip_d2.modeling import ExtendedCascadeROIHeads
from tests.modeling.roi_heads.tiny import (
    NUM_CLASSES,
    build,
    disturb,
    gradients_of,
    losses_of,
    make_batch,
    make_config,
    make_input,
    small_config,
)

THRESHOLDS = (0.5, 0.6, 0.7)


KINDS = (
    "default",
    "boxes",
    "4conv",
    "mmdet",
    "mmdet, one mask head",
    "mmdet, as labelled",
    "mmdet, 4conv",
    "mmdet, 4conv, boxes",
)
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("counts", [(3, 2), (2, 0), (0, 0)], ids=str)
@each_kind
def test_every_parameter_has_a_gradient(kind: str, counts: tuple[int, ...]) -> None:
    model = build(make_config(kind))
    grads = gradients_of(model, make_batch(counts))
    assert [name for name, grad in grads.items() if grad is None] == []
    assert all(grad.isfinite().all() for grad in grads.values())
    # Where it neither keeps nor adds the objects, an untrained cascade has none in later stages.
    if sum(counts) == 5 and "as labelled" not in kind:
        of_heads = {name: grad for name, grad in grads.items() if name.startswith("roi_heads")}
        assert [name for name, grad in of_heads.items() if not grad.any()] == []


@each_kind
def test_mixed_precision(kind: str) -> None:
    model = build(make_config(kind))
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = losses_of(model, make_batch((3, 0)))
    expected, _ = losses_of(build(make_config(kind)), make_batch((3, 0)))
    assert set(losses) == set(expected)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    total, exact = (sum(x.item() for x in of.values()) for of in (losses, expected))
    assert total == pytest.approx(exact, rel=0.1)


def make_heads(cfg: DictConfig) -> ExtendedCascadeROIHeads:
    torch.manual_seed(0)
    heads = instantiate(cfg.roi_heads).train()
    disturb(heads, 0.02)
    return heads


def make_features(requires_grad: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {
        f"p{level}": torch.randn(1, 16, 128 // 2**level, 128 // 2**level).requires_grad_(
            requires_grad
        )
        for level in range(2, 6)
    }


def make_targets(num_objects: int = 3) -> list[Instances]:
    return [make_input(num_objects, (128, 128))["instances"]]


def make_proposals(targets: list[Instances]) -> list[Instances]:
    """Boxes near the objects and anywhere else."""
    torch.manual_seed(4)
    near = targets[0].gt_boxes.tensor.repeat(4, 1)
    near = near + torch.randn_like(near) * 3
    corners = torch.rand(20, 2) * 90
    boxes = torch.cat([near, torch.cat([corners, corners + 10 + torch.rand(20, 2) * 25], dim=1)])
    proposals = Instances(targets[0].image_size)
    proposals.proposal_boxes = Boxes(boxes)
    proposals.objectness_logits = torch.zeros(len(boxes))
    return [proposals]


def train_once(
    heads: ExtendedCascadeROIHeads, features: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[Tensor], dict[str, float]]:
    """Losses, the boxes that each stage sees, and numbers of samples."""
    targets = make_targets()
    boxes: list[Tensor] = []
    hook = heads.box_pooler.register_forward_pre_hook(
        lambda module, inputs: boxes.append(inputs[1][0].tensor)
    )
    torch.manual_seed(6)
    with EventStorage() as storage:
        _, losses = heads(None, features, make_proposals(targets), targets)
    hook.remove()
    return losses, boxes, {key: value for key, (value, _) in storage.latest().items()}


def test_weights_of_stages() -> None:
    cfg = make_config("mmdet")
    cfg.roi_heads.stage_loss_weights = [1.0, 1.0, 1.0]
    plain, _, _ = train_once(make_heads(cfg), make_features())
    cfg.roi_heads.stage_loss_weights = [1.0, 0.5, 0.25]
    weighted, _, _ = train_once(make_heads(cfg), make_features())
    assert len(plain) == 9 and "loss_mask_stage2" in plain
    for name, loss in plain.items():
        factor = (1.0, 0.5, 0.25)[int(name[-1])]
        assert loss > 0 and torch.equal(weighted[name], loss * factor)


def test_one_mask_head_has_no_weight_of_a_stage() -> None:
    cfg = small_config()
    plain, _, _ = train_once(make_heads(cfg), make_features())
    cfg.roi_heads.stage_loss_weights = [0.5, 0.5, 0.5]
    weighted, _, _ = train_once(make_heads(cfg), make_features())
    assert torch.equal(weighted["loss_mask"], plain["loss_mask"])
    assert torch.equal(weighted["loss_cls_stage0"], plain["loss_cls_stage0"] / 2)


def test_gradients_of_features() -> None:
    grads = {}
    for scaled in (True, False):
        cfg = small_config("cascade_rcnn")
        cfg.roi_heads.scale_gradients = scaled
        heads, features = make_heads(cfg), make_features(requires_grad=True)
        losses, _, _ = train_once(heads, features)
        torch.stack(list(losses.values())).sum().backward()
        of_heads = [parameter.grad for parameter in heads.parameters()]
        grads[scaled] = features["p2"].grad, of_heads
    torch.testing.assert_close(grads[True][0] * 3, grads[False][0])
    assert grads[False][0].any()
    for scaled, full in zip(grads[True][1], grads[False][1], strict=True):
        assert torch.equal(scaled, full)


@pytest.mark.parametrize("removes", [False, True])
def test_ground_truth_among_the_proposals(removes: bool) -> None:
    cfg = small_config("cascade_rcnn")
    cfg.roi_heads.batch_size_per_image = 64
    cfg.roi_heads.positive_fraction = 1.0
    cfg.roi_heads.remove_ground_truth = removes
    heads = make_heads(cfg)
    # Boxes that stay where they are show which proposals are left.
    for predictor in heads.box_predictor:
        torch.nn.init.zeros_(predictor.bbox_pred.weight)
        torch.nn.init.zeros_(predictor.bbox_pred.bias)
    _, boxes, _ = train_once(heads, make_features())
    objects = make_targets()[0].gt_boxes.tensor
    present = [
        [bool((of_stage - box).abs().amax(dim=1).min() < 1e-3) for box in objects]
        for of_stage in boxes
    ]
    assert present == [[True] * 3, [not removes] * 3, [not removes] * 3]
    assert [len(boxes[0]) - len(of_stage) for of_stage in boxes] == [0, *[3 * removes] * 2]


def test_every_stage_draws_its_samples() -> None:
    cfg = small_config("cascade_rcnn")
    cfg.roi_heads.batch_size_per_image = 16
    cfg.roi_heads.remove_ground_truth = True
    cfg.roi_heads.resample_proposals = True
    # More positives than objects, so that these are all drawn.
    cfg.roi_heads.positive_fraction = 0.5
    _, boxes, numbers = train_once(make_heads(cfg), make_features())
    for stage in (1, 2):
        foreground = numbers[f"stage{stage}/roi_head/num_fg_samples"]
        assert 0 < foreground <= 8
        assert foreground + numbers[f"stage{stage}/roi_head/num_bg_samples"] == len(boxes[stage])
    # The objects themselves, unmoved, are among the candidates of each stage.
    heads = make_heads(cfg)
    for sampler in heads._samplers:
        sampler.batch_size_per_image = 1000
        sampler.positive_fraction = 1.0
    _, boxes, _ = train_once(heads, make_features())
    for box in make_targets()[0].gt_boxes.tensor:
        assert all((of_stage == box).all(dim=1).any() for of_stage in boxes[1:])


@pytest.mark.parametrize("resamples", [False, True])
def test_masks_belong_to_the_objects_of_their_stage(resamples: bool) -> None:
    cfg = make_config("mmdet")
    cfg.roi_heads.resample_proposals = resamples
    cfg.roi_heads.remove_ground_truth = False
    heads = make_heads(cfg)
    seen: list[Instances] = []
    for head in heads.mask_head:
        head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1][0]))
    regions: list[Tensor] = []
    heads.mask_pooler.register_forward_pre_hook(
        lambda module, inputs: regions.append(inputs[1][0].tensor)
    )
    losses, boxes, _ = train_once(heads, make_features())
    targets = make_targets()[0]
    assert all(map(torch.equal, regions, [x.proposal_boxes.tensor for x in seen]))
    for threshold, of_stage, instances in zip(THRESHOLDS, boxes, seen, strict=True):
        expected = pairwise_iou(targets.gt_boxes, Boxes(of_stage)).max(dim=0)
        assert len(instances) == (expected.values >= threshold).sum() > 0
        ious = pairwise_iou(targets.gt_boxes, instances.proposal_boxes).max(dim=0)
        assert (ious.values >= threshold).all()
        assert torch.equal(instances.gt_classes, targets.gt_classes[ious.indices])
        assert torch.equal(instances.gt_masks.tensor, targets.gt_masks.tensor[ious.indices])
    assert all(losses[f"loss_mask_stage{stage}"] > 0 for stage in range(3))


def test_assigned_class_chooses_the_box() -> None:
    """Every class moves boxes by another distance, so the next stage tells which one did."""
    cfg = small_config("cascade_rcnn")
    for predictor in cfg.roi_heads.box_predictors:
        predictor.cls_agnostic_bbox_reg = False
    heads = make_heads(cfg)
    with torch.no_grad():
        for predictor in heads.box_predictor:
            predictor.cls_score.weight.zero_()
            predictor.cls_score.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 2.0, 0, 5.0]))
            predictor.bbox_pred.weight.zero_()
            shifts = torch.zeros(NUM_CLASSES, 4)
            # A horizontal move by a tenth of the width, times the number of the class.
            scale = predictor.box2box_transform.weights[0]
            shifts[:, 0] = torch.arange(NUM_CLASSES) * scale / 100
            predictor.bbox_pred.bias.copy_(shifts.flatten())
    _, boxes, _ = train_once(heads, make_features())
    targets = make_targets()[0]
    best = pairwise_iou(targets.gt_boxes, Boxes(boxes[0])).max(dim=0)
    is_object = best.values >= THRESHOLDS[0]
    assert is_object.any() and not is_object.all()
    # Class 5 is the most probable one but for background.
    classes = torch.where(is_object, targets.gt_classes[best.indices], 5)
    assert len(classes.unique()) > 2
    expected = boxes[0].clone()
    width = expected[:, 2] - expected[:, 0]
    expected[:, 0::2] += (classes * width / 100)[:, None]
    torch.testing.assert_close(boxes[1], expected.clamp(0, 128), atol=1e-4, rtol=0)


def overfit(model: GeneralizedRCNN, batch: list[dict[str, Any]], steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for step in range(steps):
        losses, _ = losses_of(model, batch, seed=step)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


@pytest.mark.parametrize("kind", ["default", "mmdet, 4conv"])
def test_losses_fall(kind: str) -> None:
    totals = overfit(build(make_config(kind)), make_batch((2,)), steps=12)
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])
