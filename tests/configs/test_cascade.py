"""Recipes for Cascade R-CNN: our own, so they are held to what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from piip_d2.data.overrides import apply_data_section
from piip_d2.engine.config import load_config
from tests.configs.loading import CONFIGS, NAMES, instantiate_on_meta, load, load_once
from tests.configs.test_common import common
from tests.configs.test_configs import plain
from tests.conftest import TinyCoco

RECIPES = [name for name in NAMES if name.startswith("cascade_rcnn/")]
MASKS = "cascade_rcnn/piip_tsb_1568_1120_672_3x_ms"
AS_MMDET = "cascade_rcnn/piip_sbl_1568_1120_672_1x_as_mmdet"
ADAPTER = "cascade_rcnn/piip_sbl_1568_1120_672_1x_4conv_as_mmdet"
each_recipe = pytest.mark.parametrize("name", RECIPES)

ITERATIONS_PER_EPOCH = 7330


def test_all_recipes_are_there() -> None:
    sizes = [f"cascade_rcnn/piip_{size}_1568_1120_672" for size in ("sbl", "tsb")]
    expected = {
        f"{size}_{run}{kind}"
        for size in sizes
        for run in ("1x", "3x_ms")
        for kind in ("", "_boxes")
    }
    assert set(RECIPES) == expected | {AS_MMDET, ADAPTER}


@each_recipe
def test_recipe_is_what_its_name_says(name: str) -> None:
    cfg = load_once(name)
    has_masks, is_long = not name.endswith("_boxes"), "_3x_ms" in name
    assert ("mask_head" in cfg.model.roi_heads) == has_masks
    assert cfg.dataloader.train.mapper.use_instance_mask == has_masks
    assert [branch.img_size for branch in cfg.model.backbone.bottom_up.branches] == [
        1568,
        1120,
        672,
    ]
    assert cfg.model.backbone.bottom_up.size_divisibility == 224
    epochs, drops = (36, [27, 33]) if is_long else (12, [8, 11])
    assert cfg.train.max_iter == epochs * ITERATIONS_PER_EPOCH
    schedule = cfg.lr_multiplier.scheduler
    assert (schedule.num_updates, list(schedule.milestones)) == (epochs, drops)
    assert cfg.dataloader.train.total_batch_size == cfg.train.auto_scale_lr.base_batch_size == 16
    augmentations = cfg.dataloader.train.mapper.augmentations
    assert any("max_crop" in step for step in augmentations) == is_long
    assert cfg.dataloader.test.mapper.augmentations[0].max_size == (2041 if is_long else 1568)


@pytest.mark.parametrize("name", [MASKS, f"{MASKS}_boxes"])
def test_heads_are_the_stock_ones(name: str) -> None:
    stock = common("stock").load_stock("common/models/cascade_rcnn.py").model
    ours, theirs = plain(load(name).model), plain(stock)
    options = {
        "score_average": "probs",
        "stage_loss_weights": [1.0, 1.0, 1.0],
        "scale_gradients": True,
        "remove_ground_truth": False,
        "resample_proposals": False,
    }
    target = ours["roi_heads"].pop("_target_")
    assert target == "piip_d2.modeling.ExtendedCascadeROIHeads"
    del theirs["roi_heads"]["_target_"]
    if name.endswith("_boxes"):
        for part in ("mask_in_features", "mask_pooler", "mask_head"):
            del theirs["roi_heads"][part]
    assert ours["roi_heads"] == theirs["roi_heads"] | options
    assert ours["proposal_generator"] == theirs["proposal_generator"]


@pytest.mark.parametrize("name", [AS_MMDET, ADAPTER])
def test_as_mmdet(name: str) -> None:
    model = load_once(name).model
    rpn, heads = model.proposal_generator, model.roi_heads
    assert (list(rpn.post_nms_topk), rpn.smooth_l1_beta) == ([2000, 1000], pytest.approx(1 / 9))
    assert (heads.score_average, list(heads.stage_loss_weights)) == ("logits", [1, 0.5, 0.25])
    assert (heads.scale_gradients, heads.remove_ground_truth) == (False, True)
    assert heads.resample_proposals
    weights = [list(predictor.box2box_transform.weights) for predictor in heads.box_predictors]
    deviations = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for given, expected in zip(weights, deviations, strict=True):
        assert given == pytest.approx([1 / x for x in expected], rel=1e-12)
    assert [predictor.smooth_l1_beta for predictor in heads.box_predictors] == [1.0] * 3
    assert len(heads.mask_head) == 3
    # The learning rate, the data and the network are those of the plain recipe.
    other = load_once(AS_MMDET.removesuffix("_as_mmdet"))
    for part in ("train", "dataloader", "optimizer", "lr_multiplier"):
        assert plain(load_once(name)[part]) == plain(other[part])
    assert plain(model.backbone) == plain(other.model.backbone)


@pytest.mark.parametrize("name", [MASKS, f"{MASKS}_boxes", AS_MMDET, ADAPTER])
def test_data_of_ones_own_set_the_classes_of_every_head(name: str, tiny_coco: TinyCoco) -> None:
    cfg = load(name)
    cfg.data.train = cfg.data.val = tiny_coco.json_file
    cfg.data.images = tiny_coco.image_root
    apply_data_section(cfg)
    heads = instantiate_on_meta(cfg.model.roi_heads)
    assert heads.num_classes == 2
    assert [p.num_classes for p in heads.box_predictor] == [2] * 3
    assert [p.cls_score.out_features for p in heads.box_predictor] == [3] * 3
    num_boxes = 2 if name == ADAPTER else 1
    assert [p.bbox_pred.out_features for p in heads.box_predictor] == [4 * num_boxes] * 3
    if name in (AS_MMDET, ADAPTER):
        assert [head.predictor.out_channels for head in heads.mask_head] == [2] * 3
    elif heads.mask_on:
        assert heads.mask_head.predictor.out_channels == 2


def test_overrides_of_heads_arrive() -> None:
    overrides = [
        "model.roi_heads.score_average=logits",
        "model.roi_heads.stage_loss_weights=[1.0,0.5,0.25]",
        "model.roi_heads.scale_gradients=False",
        "model.roi_heads.box_predictors.2.test_score_thresh=0.2",
        "model.roi_heads.box_predictors.2.box2box_transform.weights=[30.303,30.303,14.925,14.925]",
        "model.roi_heads.num_classes=5",
    ]
    cfg = load_config(str(CONFIGS / f"{MASKS}.py"), overrides)
    heads = instantiate(cfg.model.roi_heads)
    assert (heads.score_average, heads.scale_gradients) == ("logits", False)
    assert heads.stage_loss_weights == [1.0, 0.5, 0.25]
    assert heads.box_predictor[2].test_score_thresh == 0.2
    assert heads.box_predictor[2].box2box_transform.weights[0] == 30.303
    assert [predictor.num_classes for predictor in heads.box_predictor] == [5] * 3


@pytest.mark.parametrize("norm", ["SyncBN", "BN"])
def test_4conv1fc_survives_saving(norm: str, tmp_path: Path) -> None:
    cfg = load(ADAPTER)
    if norm != "SyncBN":
        common("models.cascade_4conv1fc").use_4conv1fc(cfg.model, norm=norm)
    file = tmp_path / "config.yaml"
    LazyConfig.save(cfg, str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    loaded = LazyConfig.load(str(file))
    assert plain(loaded) == plain(cfg)
    heads = instantiate_on_meta(loaded.model.roi_heads)
    for head, predictor in zip(heads.box_head, heads.box_predictor, strict=True):
        assert [conv.out_channels for conv in head.conv_norm_relus] == [256] * 4
        assert [fc.out_features for fc in head.fcs] == [1024]
        assert norm.replace("BN", "Batch") in type(head.conv_norm_relus[0].norm).__name__
        assert predictor.bbox_pred.out_features == 4 * 80
        assert predictor.box_reg_loss_type == "giou"
        assert predictor.loss_weight == {"loss_box_reg": 10.0}
    rpn = instantiate_on_meta(OmegaConf.create(loaded.model.proposal_generator.head))
    assert len(rpn.conv) == 2
