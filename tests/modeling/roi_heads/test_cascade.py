"""The cascade is Detectron2's unless it is told otherwise; and what it may be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.roi_heads import CascadeROIHeads
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from piip_d2.modeling import ExtendedCascadeROIHeads
from piip_d2.modeling.roi_heads import MaskHeadEnsemble
from piip_d2.modeling.roi_heads.mask_ensemble import join_mask_heads
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
    use_mmdet_behaviour,
)

OPTIONS = (
    "score_average",
    "stage_loss_weights",
    "scale_gradients",
    "remove_ground_truth",
    "resample_proposals",
)


def make_stock(name: str) -> DictConfig:
    """The same model with Detectron2's own class."""
    cfg = small_config(name)
    cfg.roi_heads._target_ = CascadeROIHeads
    for option in OPTIONS:
        cfg.roi_heads.pop(option)
    return cfg


def detect(model: torch.nn.Module) -> dict[str, Tensor]:
    model.eval()
    with torch.no_grad():
        found = model([make_input(2, (96, 128)), make_input(3, (80, 112))])
    fields: dict[str, list[Tensor]] = {}
    for result in found:
        for key, value in result["instances"].get_fields().items():
            fields.setdefault(key, []).append(getattr(value, "tensor", value).flatten())
    return {key: torch.cat(values) for key, values in fields.items()}


@pytest.mark.parametrize("counts", [(3, 2), (2, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("name", ["cascade_mask_rcnn", "cascade_rcnn"])
def test_default_is_detectron2_to_the_bit(name: str, counts: tuple[int, ...]) -> None:
    ours, stock = build(small_config(name)), build(make_stock(name))
    assert type(ours.roi_heads) is ExtendedCascadeROIHeads
    assert list(ours.state_dict()) == list(stock.state_dict())
    for model in (ours, stock):
        disturb(model)
    batch = make_batch(counts)
    (losses, storage), (expected, expected_storage) = (
        losses_of(ours, batch),
        losses_of(stock, batch),
    )
    assert list(losses) == list(expected)
    assert all(torch.equal(losses[key], value) for key, value in expected.items())
    assert storage.latest() == expected_storage.latest()
    grads, expected_grads = gradients_of(ours, batch), gradients_of(stock, batch)
    for key, grad in expected_grads.items():
        assert grad is not None and torch.equal(grads[key], grad), key
    found, expected_found = detect(ours), detect(stock)
    assert len(found["scores"]) > 20 and set(found) == set(expected_found)
    assert all(torch.equal(found[key], value) for key, value in expected_found.items())


def test_averages_of_scores() -> None:
    cfg = small_config("cascade_rcnn")
    model = build(cfg)
    disturb(model, 0.3)
    heads = model.roi_heads
    for predictor in heads.box_predictor:
        predictor.test_score_thresh, predictor.test_nms_thresh = 0.0, 1.0
    logits: list[Tensor] = []
    hooks = [
        predictor.cls_score.register_forward_hook(lambda module, x, out: logits.append(out))
        for predictor in heads.box_predictor
    ]
    for average in ("probs", "logits"):
        heads.score_average = average
        logits.clear()
        (found,) = model.eval().inference([make_input(0)], do_postprocess=False)
        stages = torch.stack(logits)
        mean = stages.softmax(2).mean(0) if average == "probs" else stages.mean(0).softmax(1)
        expected = mean[:, :-1].flatten().sort(descending=True).values[: len(found)]
        torch.testing.assert_close(found.scores, expected, atol=1e-6, rtol=0)
    for hook in hooks:
        hook.remove()


def test_masks_are_the_mean_of_all_heads() -> None:
    cfg = small_config()
    use_mmdet_behaviour(cfg)
    model = build(cfg)
    disturb(model, 0.2)
    model.eval()
    heads = model.roi_heads
    assert isinstance(heads.mask_head, MaskHeadEnsemble) and len(heads.mask_head) == 3
    assert "mask_head.2.mask_fcn1.weight" in heads.state_dict()
    inputs = [make_input(2), make_input(1)]
    with torch.no_grad():
        found = model.inference(inputs, do_postprocess=False)
        maps = model.backbone(model.preprocess_image(inputs).tensor)
        total = torch.zeros(())
        ensemble, masks = heads.mask_head, [x.pred_masks for x in found]
        for head in ensemble:
            heads.mask_head = head
            alone = heads.forward_with_given_boxes(maps, found)
            total = total + torch.cat([x.pred_masks for x in alone]) / 3
    torch.testing.assert_close(torch.cat(masks), total)


@pytest.mark.parametrize("kind", ["default", "mmdet, 4conv"])
def test_an_image_is_detected_in_as_if_it_were_alone(kind: str) -> None:
    cfg = make_config(kind)
    # The same padding, alone and beside a larger image.
    cfg.backbone.bottom_up.square_size = 128
    model = build(cfg)
    disturb(model)
    inputs = [make_input(2, (96, 128)), make_input(3, (80, 112))]
    both = model.eval().inference(inputs, do_postprocess=False)
    for of_image, alone in zip(both, inputs, strict=True):
        (expected,) = model.inference([alone], do_postprocess=False)
        assert len(of_image) == len(expected) > 20
        assert torch.equal(of_image.pred_classes, expected.pred_classes)
        for name in ("pred_boxes", "scores", "pred_masks"):
            found, wanted = (
                getattr(x.get(name), "tensor", x.get(name)) for x in (of_image, expected)
            )
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mask_heads", [1, 3])
def test_no_detections(mask_heads: int) -> None:
    cfg = small_config()
    use_mmdet_behaviour(cfg, mask_heads=mask_heads)
    cfg.roi_heads.box_predictors[-1].test_score_thresh = 1.0
    (found,) = build(cfg).eval().inference([make_input(1)], do_postprocess=False)
    assert len(found) == 0 and found.pred_masks.shape == (0, 1, 28, 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"stage_loss_weights": [1.0, 0.5]},
            r"stage_loss_weights must be one weight for each of 3 stages, got \[1.0, 0.5\]",
        ),
        ({"score_average": "scores"}, "score_average must be one of probs, logits, got 'scores'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    cfg = small_config()
    cfg.roi_heads.update(options)
    with pytest.raises(ValueError, match=message):
        instantiate(cfg.roi_heads)


def test_wrong_number_of_mask_heads_is_refused() -> None:
    cfg = small_config()
    use_mmdet_behaviour(cfg)
    cfg.roi_heads.mask_head = cfg.roi_heads.mask_head[:2]
    message = "mask_head must be one head or one for each of 3 stages, got 2"
    with pytest.raises(ValueError, match=message):
        instantiate(cfg.roi_heads)


def test_a_list_of_one_mask_head_is_that_head() -> None:
    cfg = small_config()
    head = cfg.roi_heads.mask_head
    head.num_classes = NUM_CLASSES
    cfg.roi_heads.mask_head = [head]
    assert "mask_head.mask_fcn1.weight" in instantiate(cfg.roi_heads).state_dict()


@pytest.mark.parametrize("container", [list, torch.nn.ModuleList])
def test_mask_heads_in_any_container(container: Callable[[list[Any]], Any]) -> None:
    heads = [torch.nn.Linear(1, 1) for _ in range(3)]
    joined = join_mask_heads(container(heads), 3)
    assert isinstance(joined, MaskHeadEnsemble) and list(joined) == heads
    assert join_mask_heads(container(heads[:1]), 3) is heads[0]


@pytest.mark.parametrize("num_stages", [1, 2])
def test_other_numbers_of_stages(num_stages: int) -> None:
    cfg = small_config()
    heads = cfg.roi_heads
    for key in ("box_heads", "box_predictors", "proposal_matchers"):
        heads[key] = heads[key][:num_stages]
    heads.stage_loss_weights = None
    losses, _ = losses_of(build(cfg), make_batch((2, 1)))
    assert f"loss_cls_stage{num_stages - 1}" in losses and len(losses) == 2 * num_stages + 3


@pytest.mark.parametrize("kind", ["default", "mmdet", "mmdet, one mask head"])
def test_without_a_mask_head_it_is_a_cascade_of_boxes(kind: str) -> None:
    cfg = OmegaConf.create({"model": make_config(kind)}, flags={"allow_objects": True})
    cfg = LazyConfig.apply_overrides(cfg, ["model.roi_heads.mask_head=null"])
    model = build(cfg.model)
    assert not model.roi_heads.mask_on
    assert not [name for name in model.state_dict() if "mask" in name]
    grads = gradients_of(model, make_batch((3, 2)))
    assert [name for name, grad in grads.items() if grad is None] == []
    losses, _ = losses_of(model, make_batch((3, 2)))
    assert len(losses) == 2 * 3 + 2 and not any("mask" in name for name in losses)
    disturb(model)
    found = detect(model)
    assert len(found["scores"]) > 20 and "pred_masks" not in found


@pytest.mark.parametrize(
    ("classes", "seen"), [([0, 9], "0 to 9"), ([NUM_CLASSES, 1], "1 to 7"), ([-1, 2], "-1 to 2")]
)
def test_class_out_of_range_is_refused(classes: list[int], seen: str) -> None:
    batch = make_batch((0, 2))
    batch[1]["instances"].gt_classes = torch.tensor(classes)
    message = (
        rf"gt_classes must be from 0 to num_classes - 1 \(6\), got {seen}; "
        "set model.roi_heads.num_classes"
    )
    with pytest.raises(ValueError, match=message):
        losses_of(build(small_config()), batch)
