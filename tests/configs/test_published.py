"""The resolved configurations against the released ones."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.checkpoint import build_from_official
from piip_d2.data.augmentation import MultiScaleCrop
from piip_d2.solver import get_piip_param_groups
from tests.configs.loading import ALWAYS_BUILT, NAMES, build, load, load_once, slow_unless
from tests.configs.published import (
    NUM_TRAINING_IMAGES,
    PUBLISHED,
    UNRELEASED,
    Published,
    official_names,
)

each_published = pytest.mark.parametrize("published", PUBLISHED, ids=lambda item: item.name)
each_built = pytest.mark.parametrize(
    ("name", "published"), [slow_unless(ALWAYS_BUILT, item.name, item) for item in PUBLISHED]
)


@functools.cache
def reference(published: Published) -> nn.Module:
    """The backbone that their configuration describes, for reading only."""
    with without_numbers():
        return build_from_official(published.backbone, four_branch=published.four_branch)


def backbone(name: str) -> nn.Module:
    return build(name).backbone.bottom_up


def test_the_table_covers_all_experiments_and_all_released_configurations() -> None:
    ours = {item.name for item in PUBLISHED} | UNRELEASED
    assert ours == {name for name in NAMES if name.startswith(("mask_rcnn/", "dino/"))}
    assert {item.official for item in PUBLISHED} == official_names()
    assert len(official_names()) == 33


@each_built
def test_weights_have_the_same_names_and_shapes(name: str, published: Published) -> None:
    def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in network.state_dict().items()}

    assert shapes(backbone(name)) == shapes(reference(published))


@each_built
def test_modules_have_the_same_settings(name: str, published: Published) -> None:
    ours, theirs = backbone(name), reference(published)
    assert ours.interaction_block_indexes == theirs.interaction_block_indexes
    # Among them activations, epsilons and rates of stochastic depth.
    for (child, module), other in zip(ours.named_children(), theirs.children(), strict=True):
        assert repr(module) == repr(other), child
    attributes = ("num_heads", "window_size", "window_padding", "scale", "use_act_checkpoint")
    for attribute in attributes:
        assert _collect(ours, attribute) == _collect(theirs, attribute)


@each_built
def test_maps_have_the_channels_of_the_neck(name: str, published: Published) -> None:
    channels = [shape.channels for shape in backbone(name).output_shape().values()]
    assert channels == published.recipe["neck"]["in_channels"]
    assert load_once(name).model.backbone.out_channels == 256
    assert published.recipe["neck"]["out_channels"] == 256


@each_published
def test_branches(published: Published) -> None:
    ours = load_once(published.name).model.backbone.bottom_up.branches
    for branch, theirs in zip(ours, published.branches, strict=True):
        assert branch.img_size == theirs.get("real_size", 1024)
        assert branch.get("drop_path_rate", 0.0) == theirs.get("drop_path_rate", 0.0)
        if "depths" in branch:
            assert "convnext" in theirs["pretrained"]
            continue
        for name in ("embed_dim", "depth", "num_heads"):
            assert branch[name] == theirs[name]
        assert branch.get("pretrain_img_size", 224) == theirs["pretrain_img_size"]
        assert _windows(branch) == _their_windows(theirs)
        if branch._target_.__name__ == "ViTBranch":
            schedule = branch.get("drop_path_schedule", "constant")
            assert schedule == ("constant" if "deit" in theirs["pretrained"] else "linear")


@each_published
def test_training_images(published: Published) -> None:
    mapper = load_once(published.name).dataloader.train.mapper
    steps = published.steps("train")
    by_name = {step._target_.__name__: step for step in mapper.augmentations}
    assert len(by_name) == 2
    assert steps["RandomFlip"] == {"flip_ratio": 0.5} and by_name["RandomFlip"].horizontal
    if "AutoAugment" not in steps:
        assert list(by_name) == ["ResizeShortestEdge", "RandomFlip"]
        resize = by_name["ResizeShortestEdge"]
        assert [resize.max_size, resize.short_edge_length] == steps["Resize"]["img_scale"]
        return
    assert list(by_name) == ["RandomFlip", "MultiScaleCrop"]
    (plain,), (first, crop, last) = steps["AutoAugment"]["policies"]
    scales = by_name["MultiScaleCrop"]
    assert _scales(scales.short_edge_lengths, scales.max_size) == plain["img_scale"]
    assert _scales(scales.short_edge_lengths, scales.max_size) == last["img_scale"]
    assert _scales(scales.zoom_short_edge_lengths, scales.max_size) == first["img_scale"]
    assert scales.zoom_crop_range == crop["crop_size"]
    assert [scales.max_crop] * 2 == steps["RandomCrop"]["crop_size"]
    # Two policies, equally likely.
    assert isinstance(instantiate(scales), MultiScaleCrop)
    assert instantiate(scales).zoom_probability == 0.5


@each_published
def test_evaluated_images(published: Published) -> None:
    (resize,) = load_once(published.name).dataloader.test.mapper.augmentations
    theirs = published.steps("test")["Resize"]
    assert [resize.max_size, resize.short_edge_length] == theirs["img_scale"]
    assert theirs["flip"] is False


@each_published
def test_normalisation_and_padding(published: Published) -> None:
    cfg = load_once(published.name)
    for pipeline in ("train", "test"):
        steps = published.steps(pipeline)
        assert cfg.dataloader[pipeline].mapper.image_format == cfg.model.input_format == "RGB"
        assert cfg.model.pixel_mean == steps["Normalize"]["mean"]
        assert cfg.model.pixel_std == steps["Normalize"]["std"]
        assert cfg.model.backbone.bottom_up.size_divisibility == steps["Pad"]["size_divisor"]


@each_published
def test_optimizer(published: Published) -> None:
    ours, theirs = load(published.name).optimizer, published.recipe["optimizer"]
    assert (ours.lr, ours.weight_decay) == (theirs["lr"], theirs["weight_decay"])
    ours.params = [nn.Parameter(torch.zeros(1))]
    defaults = instantiate(ours).defaults
    assert (list(defaults["betas"]), defaults["eps"]) == (theirs["betas"], 1e-8)
    layers = theirs.get("paramwise_cfg", {"layer_decay_rate": None})
    params = load_once(published.name).optimizer.params
    assert params.get("layer_decay") == layers["layer_decay_rate"]


@each_built
def test_rates_of_layers_need_no_numbers(name: str, published: Published) -> None:
    # The defaults of the groups must amount to those that the released recipe spells out.
    layers = published.recipe["optimizer"].get("paramwise_cfg")
    params = load(name).optimizer.params
    params.base_lr, params.weight_decay, params.model = 1e-4, 0.05, backbone(name)
    groups = instantiate(params)
    if layers is None:
        ((lr, decay),) = {(group["lr"], group["weight_decay"]) for group in groups}
        assert (lr, decay) == (1e-4, 0.05)
        return
    given = get_piip_param_groups(
        backbone(name),
        base_lr=1e-4,
        layer_decay=layers["layer_decay_rate"],
        num_layers=layers["num_layers"],
        skip_strides=layers.get("skip_stride", []),
    )
    assert _rates(given) == _rates(groups)


@each_published
def test_schedule(published: Published) -> None:
    cfg = load_once(published.name)
    epochs, drops = published.recipe["max_epochs"], published.recipe["lr_steps"]
    per_epoch = math.ceil(NUM_TRAINING_IMAGES / published.batch_size)
    assert cfg.train.max_iter == epochs * per_epoch
    assert cfg.train.eval_period == cfg.train.checkpointer.period == per_epoch
    assert cfg.dataloader.train.total_batch_size * cfg.train.accumulate == published.batch_size
    assert cfg.train.auto_scale_lr.base_batch_size == published.batch_size
    clipping = published.recipe.get("grad_clip")
    assert cfg.train.clip_grad.enabled == (clipping is not None)
    if clipping is not None:
        limits = {"max_norm": cfg.train.clip_grad.max_norm, "norm_type": 2}
        assert limits == clipping and cfg.train.clip_grad.norm_type == 2
    multiplier = instantiate(cfg.lr_multiplier)

    def rates(*iterations: int) -> list[float]:
        return [multiplier(iteration / cfg.train.max_iter) for iteration in iterations]

    assert rates(0, 250, 500) == pytest.approx([0.001, 0.5005, 1.0])
    for factor, drop in zip((0.1, 0.01), drops, strict=True):
        around = rates(drop * per_epoch - 1, drop * per_epoch)
        assert around == pytest.approx([10 * factor, factor])


def test_heads() -> None:
    model = load_once(PUBLISHED[0].name).model
    rpn, roi_heads = model.proposal_generator, model.roi_heads
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
    built = build(PUBLISHED[0].name)
    # Boxes per class, and one convolution in the RPN, neither of which the config spells out.
    assert built.roi_heads.box_predictor.bbox_pred.out_features == 80 * 4
    assert built.roi_heads.box_predictor.smooth_l1_beta == 0
    assert isinstance(built.proposal_generator.rpn_head.conv, nn.Conv2d)


@each_published
def test_heads_are_the_same_everywhere(published: Published) -> None:
    kind = published.name.partition("/")[0]
    first = next(item.name for item in PUBLISHED if item.name.startswith(kind))
    model, first = load_once(published.name).model, load_once(first).model
    parts = ("transformer", "denoising", "criterion")
    for part in parts if kind == "dino" else ("proposal_generator", "roi_heads"):
        assert OmegaConf.to_container(model[part]) == OmegaConf.to_container(first[part])


def _collect(network: nn.Module, attribute: str) -> dict[str, Any]:
    return {
        name: getattr(module, attribute)
        for name, module in network.named_modules()
        if name and hasattr(module, attribute)
    }


def _windows(branch: DictConfig) -> list[int | None]:
    windows = branch.get("window_size")
    return list(windows) if OmegaConf.is_list(windows) else [windows] * branch.depth


def _their_windows(branch: dict[str, Any]) -> list[int | None]:
    runs = zip(
        branch.get("window_attn_rle", [[False, branch["depth"]]]),
        branch.get("window_size_rle", [[-1, branch["depth"]]]),
        strict=True,
    )
    return [size if used else None for (used, count), (size, _) in runs for _ in range(count)]


def _scales(short_sides: list[int], max_size: int) -> list[list[int]]:
    return [[side, max_size] for side in short_sides]


def _rates(groups: list[dict[str, Any]]) -> dict[nn.Parameter, tuple[float, float]]:
    return {p: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
