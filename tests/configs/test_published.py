"""The resolved Mask R-CNN configurations against the released recipes."""

from __future__ import annotations

import functools

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from piip_d2.configs import get_config, list_configs
from piip_d2.solver import get_piip_param_groups
from tests.configs.published import DEPTHS, DIMS, DROP_PATH_RATES, HEADS, RECIPES, Recipe

# What does not depend on the resolutions is tested for one recipe per family.
FAMILIES = {recipe.family: recipe for recipe in reversed(RECIPES)}.values()

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
each_family = pytest.mark.parametrize("recipe", FAMILIES, ids=lambda recipe: recipe.family)


@functools.cache
def config(recipe: Recipe) -> DictConfig:
    """The whole configuration; for reading only."""
    return get_config(recipe.name)


@functools.cache
def backbone(recipe: Recipe) -> nn.Module:
    """The network below the FPN without memory for its weights; for reading only."""
    with torch.device("meta"):
        return instantiate(config(recipe).model.backbone.bottom_up)


def test_the_table_covers_all_published_experiments() -> None:
    named = {recipe.name for recipe in RECIPES}
    assert named == {name for name in list_configs() if name.startswith("mask_rcnn/")}


@each_recipe
def test_branches(recipe: Recipe) -> None:
    branches = config(recipe).model.backbone.bottom_up.branches
    assert [
        (b.img_size, b.embed_dim, b.depth, b.num_heads, b.window_size, b.drop_path_rate)
        for b in branches
    ] == [
        (size, DIMS[c], DEPTHS[c], HEADS[c], recipe.window_size, DROP_PATH_RATES[c])
        for c, size in zip(recipe.family, recipe.img_sizes, strict=True)
    ]


@each_family
def test_backbone_has_the_released_number_of_parameters(recipe: Recipe) -> None:
    count = sum(parameter.numel() for parameter in backbone(recipe).parameters())
    assert count == recipe.backbone_parameters


@each_family
def test_blocks_between_interactions(recipe: Recipe) -> None:
    blocks = {12: list(range(12)), 24: list(range(1, 24, 2))}
    expected = [blocks[DEPTHS[initial]] for initial in reversed(recipe.family)]
    assert backbone(recipe).interaction_block_indexes == expected


@each_recipe
def test_interactions_and_padding(recipe: Recipe) -> None:
    piip = config(recipe).model.backbone.bottom_up
    assert (piip.num_interactions, piip.num_heads, piip.num_points) == (12, 16, 4)
    assert (piip.attention, piip.value_ratio, piip.ffn_ratio) == ("deformable", 0.5, 0.25)
    assert (piip.with_projection, piip.with_norm, piip.merge) == (True, True, "conv")
    assert piip.interaction_drop_path_rate == 0.4
    assert piip.size_divisibility == 224


@each_recipe
def test_images(recipe: Recipe) -> None:
    cfg = config(recipe)
    for loader in (cfg.dataloader.train, cfg.dataloader.test):
        resize = loader.mapper.augmentations[0]
        assert resize.max_size == max(recipe.img_sizes)
        assert resize.short_edge_length == recipe.short_side
        assert loader.mapper.image_format == "RGB"
    assert cfg.model.input_format == "RGB"
    assert cfg.model.pixel_mean == cfg.model.pixel_std == [127.5] * 3
    assert len(cfg.dataloader.train.mapper.augmentations) == 2
    assert len(cfg.dataloader.test.mapper.augmentations) == 1


@each_recipe
def test_optimizer(recipe: Recipe) -> None:
    optimizer = config(recipe).optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.params.layer_decay) == (
        1e-4,
        0.05,
        0.85,
    )


@each_family
def test_layer_scale_needs_no_numbers(recipe: Recipe) -> None:
    # The defaults of the groups must amount to those that the released recipe spells out.
    network = backbone(recipe)
    given = get_piip_param_groups(
        network, base_lr=1e-4, num_layers=recipe.num_layers, skip_strides=recipe.skip_strides
    )
    derived = get_piip_param_groups(network, base_lr=1e-4)
    assert [(g["name"], g["lr"]) for g in given] == [(g["name"], g["lr"]) for g in derived]


@each_recipe
def test_schedule(recipe: Recipe) -> None:
    cfg = config(recipe)
    assert cfg.train.max_iter == 87_960
    assert cfg.dataloader.train.total_batch_size * cfg.train.accumulate == 16
    assert not cfg.train.clip_grad.enabled
    multiplier = instantiate(cfg.lr_multiplier)

    def rate(iteration: int) -> float:
        return multiplier(iteration / 87_960)

    assert [rate(i) for i in (0, 250, 500)] == pytest.approx([0.001, 0.5005, 1.0])
    assert [rate(i) for i in (58_639, 58_640)] == pytest.approx([1.0, 0.1])
    assert [rate(i) for i in (80_629, 80_630)] == pytest.approx([0.1, 0.01])


def test_heads() -> None:
    model = config(RECIPES[0]).model
    rpn, roi_heads = model.proposal_generator, model.roi_heads
    assert model.backbone.out_channels == 256
    assert rpn.anchor_generator.sizes == [[32], [64], [128], [256], [512]]
    assert (rpn.anchor_generator.aspect_ratios, rpn.anchor_generator.offset) == ([0.5, 1, 2], 0)
    assert (rpn.batch_size_per_image, rpn.positive_fraction, rpn.nms_thresh) == (256, 0.5, 0.7)
    assert (list(rpn.pre_nms_topk), list(rpn.post_nms_topk)) == ([2000, 1000], [1000, 1000])
    assert (roi_heads.batch_size_per_image, roi_heads.positive_fraction) == (512, 0.25)
    assert (roi_heads.box_pooler.output_size, roi_heads.mask_pooler.output_size) == (7, 14)
    assert (roi_heads.box_head.conv_dims, roi_heads.box_head.fc_dims) == ([], [1024, 1024])
    assert roi_heads.mask_head.conv_dims == [256] * 5
    assert roi_heads.num_classes == roi_heads.mask_head.num_classes == 80
    assert roi_heads.box_predictor.test_score_thresh == 0.05
    with torch.device("meta"):
        built = instantiate(roi_heads)
        rpn_head = instantiate(rpn.head)
    # Boxes per class, and one convolution in the RPN, neither of which the config spells out.
    assert built.box_predictor.bbox_pred.out_features == 80 * 4
    assert built.box_predictor.smooth_l1_beta == 0
    assert isinstance(rpn_head.conv, nn.Conv2d)
