"""Functions that make other kinds of a cascade: on any cascade, in any order, on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig

from tests.configs.loading import instantiate_on_meta, load
from tests.configs.test_common import common
from tests.configs.test_configs import plain

MASKS = "cascade_rcnn/piip_tsb_1568_1120_672_1x"
AS_MMDET = "cascade_rcnn/piip_sbl_1568_1120_672_1x_as_mmdet"

use_mmdet_behaviour = common("models.cascade_as_mmdet").use_mmdet_behaviour
use_4conv1fc = common("models.cascade_4conv1fc").use_4conv1fc


def with_stages(number: int) -> DictConfig:
    model = load(MASKS).model
    heads = model.roi_heads
    for key in ("box_heads", "box_predictors", "proposal_matchers"):
        heads[key] = [heads[key][min(stage, 2)] for stage in range(number)]
    return model


@pytest.mark.parametrize("mask_heads", [None, 1, 3])
def test_twice_is_once(mask_heads: int | None) -> None:
    once = load(MASKS).model
    use_mmdet_behaviour(once, mask_heads=mask_heads)
    # Whatever has been asked for before, the last call says what there is.
    for first in (None, 1, 3):
        twice = load(MASKS).model
        use_mmdet_behaviour(twice, mask_heads=first)
        use_mmdet_behaviour(twice, mask_heads=mask_heads)
        assert plain(twice) == plain(once)
    again = load(AS_MMDET).model
    use_mmdet_behaviour(again, mask_heads=mask_heads)
    assert plain(again.roi_heads) == plain(once.roi_heads)


def test_classes_follow_when_a_list_becomes_one_head() -> None:
    model = load(AS_MMDET).model
    use_mmdet_behaviour(model, mask_heads=1)
    model.roi_heads.num_classes = 5
    assert instantiate_on_meta(model.roi_heads).mask_head.predictor.out_channels == 5


def test_order_makes_no_difference() -> None:
    one, other = load(MASKS).model, load(MASKS).model
    for function in (use_mmdet_behaviour, use_4conv1fc, use_4conv1fc):
        function(one)
    for function in (use_4conv1fc, use_mmdet_behaviour):
        function(other)
    assert plain(one) == plain(other)


@pytest.mark.parametrize("name", [MASKS, f"{MASKS}_boxes", AS_MMDET])
def test_without_masks(name: str) -> None:
    cfg = load(name)
    if not name.endswith("_boxes"):
        cfg = LazyConfig.apply_overrides(cfg, ["model.roi_heads.mask_head=null"])
    use_mmdet_behaviour(cfg.model)
    heads = instantiate_on_meta(cfg.model.roi_heads)
    assert not heads.mask_on and heads.score_average == "logits"


@pytest.mark.parametrize("number", [1, 2, 4])
def test_other_numbers_of_stages(number: int) -> None:
    model = with_stages(number)
    use_mmdet_behaviour(model)
    heads = instantiate(model.roi_heads)
    assert heads.stage_loss_weights == [1.0, 0.5, 0.25, 0.125][:number]
    assert (len(heads.mask_head) if number > 1 else 1) == number
    # Deltas of a stage have the same scale in a cascade of any length.
    scales = [predictor.box2box_transform.weights[0] for predictor in heads.box_predictor]
    assert scales[:3] == pytest.approx([10, 20, 1 / 0.033][:number], rel=1e-12)


@pytest.mark.parametrize(
    ("number", "mask_heads", "message"),
    [
        (3, 2, "mask_heads must be 1 or 3, one per stage, got 2"),
        (4, 3, "mask_heads must be 1 or 4, one per stage, got 3"),
        (3, 0, "mask_heads must be 1 or 3, one per stage, got 0"),
    ],
)
def test_wrong_number_of_mask_heads_is_refused(number: int, mask_heads: int, message: str) -> None:
    model = with_stages(number)
    before = plain(model)
    with pytest.raises(ValueError, match=message):
        use_mmdet_behaviour(model, mask_heads=mask_heads)
    assert plain(model) == before


@pytest.mark.parametrize("function", [use_mmdet_behaviour, use_4conv1fc])
@pytest.mark.parametrize(
    "name", ["mask_rcnn/piip_tsb_1120_896_448_1x", "dino/piip_tsb_1120_896_448_1x"]
)
def test_other_detectors_are_refused(name: str, function: Callable[[DictConfig], None]) -> None:
    model = load(name).model
    before = plain(model)
    message = "the model must be a cascade, whose roi_heads have box_predictors, got .*; begin with"
    with pytest.raises(ValueError, match=message):
        function(model)
    assert plain(model) == before
