"""DINO's configurations, field by field against the released ones, and what overrides reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from piip_d2.engine.config import load_config
from piip_d2.modeling import DINO
from tests.configs.loading import CONFIGS, build, instantiate_on_meta, load, load_once
from tests.configs.published import PUBLISHED, Published
from tests.modeling.dino.tiny import make_input

RELEASED = [item for item in PUBLISHED if item.name.startswith("dino/")]
each_released = pytest.mark.parametrize("published", RELEASED, ids=lambda item: item.name)
SBL = "dino/piip_sbl_1792_1120_672_3x"
FIVE_LEVELS = "dino/piip_tsb_1120_896_448_1x_5scale"


def resize(short_sides: Any, max_size: int) -> dict[str, Any]:
    scales = [[side, max_size] for side in short_sides]
    return {"type": "Resize", "img_scale": scales, "multiscale_mode": "value", "keep_ratio": True}


def crop(shortest: int, longest: int) -> dict[str, Any]:
    size = {"crop_size": [shortest, longest], "allow_negative_crop": True}
    return {"type": "RandomCrop", "crop_type": "absolute_range", **size}


def normalisation_and_padding(cfg: DictConfig) -> list[list[Any]]:
    model = cfg.model
    normalise = {"mean": list(model.pixel_mean), "std": list(model.pixel_std), "to_rgb": True}
    return [
        ["Normalize", normalise],
        ["Pad", {"size_divisor": model.backbone.bottom_up.size_divisibility}],
    ]


def training_pipeline(cfg: DictConfig) -> list[list[Any]]:
    """Our pipeline as the released code would write it."""
    flip, scales = cfg.dataloader.train.mapper.augmentations
    last = resize(scales.short_edge_lengths, scales.max_size)
    zoom = resize(scales.zoom_short_edge_lengths, scales.max_size)
    policies = [[last], [zoom, crop(*scales.zoom_crop_range), {**last, "override": True}]]
    final = crop(scales.max_crop, scales.max_crop)
    final.pop("type")
    return [
        ["LoadAnnotations", {"with_bbox": True}],
        ["RandomFlip", {"flip_ratio": instantiate(flip).prob}],
        ["AutoAugment", {"policies": policies}],
        ["RandomCrop", final],
        *normalisation_and_padding(cfg),
    ]


def evaluation_pipeline(cfg: DictConfig) -> list[list[Any]]:
    """The same for evaluation."""
    (scale,) = cfg.dataloader.test.mapper.augmentations
    steps = [["Resize", {"keep_ratio": True}], ["RandomFlip", {}], *normalisation_and_padding(cfg)]
    around = {"img_scale": [scale.max_size, scale.short_edge_length], "flip": False}
    return [["MultiScaleFlipAug", {**around, "transforms": steps}]]


@each_released
def test_pipelines(published: Published) -> None:
    cfg, recipe = load_once(published.name), published.recipe
    assert training_pipeline(cfg) == recipe["train_pipeline_effective"]
    assert evaluation_pipeline(cfg) == recipe["test_pipeline_effective"]
    assert not cfg.dataloader.train.mapper.use_instance_mask
    assert cfg.dataloader.train.total_batch_size == 16 * recipe["samples_per_gpu"]


@each_released
def test_necks(published: Published) -> None:
    neck, theirs = load_once(published.name).model.backbone, published.recipe["neck"]
    assert theirs["type"] == neck._target_.__name__ == "ChannelMapper"
    assert (neck.num_levels, neck.out_channels) == (theirs["num_outs"], theirs["out_channels"])
    assert theirs["norm_cfg"] == {"type": "GN", "num_groups": neck.num_groups}
    assert theirs["act_cfg"] is None and theirs["kernel_size"] == 1 and not neck.bias
    assert list(neck.bottom_up.out_features) == ["res3", "res4", "res5"]


def test_numbers_of_the_released_head() -> None:
    """What all released configurations have in common, as their logs and weights show it."""
    model = OmegaConf.to_container(load_once(SBL).model, resolve=True)
    head, noise, losses = (model[part] for part in ("transformer", "denoising", "criterion"))
    for parts, expected in (
        (head, {"num_levels": 4, "num_heads": 8, "num_points": 4, "feedforward_dim": 2048}),
        (head, {"num_encoder_layers": 6, "num_decoder_layers": 6, "num_queries": 900}),
        (head, {"position_temperature": 20.0, "position_offset": 0.0, "embed_dim": 256}),
        (noise, {"num_queries": 100, "label_noise": 0.5, "box_noise": 1.0, "num_classes": 80}),
        (losses, {"class_weight": 1.0, "bbox_weight": 5.0, "giou_weight": 2.0}),
        (losses, {"aux_weight": 1.0, "encoder_weight": 1.0, "denoising_weight": 1.0}),
        (losses["matcher"], {"class_weight": 2.0, "bbox_weight": 5.0, "giou_weight": 2.0}),
        (model, {"num_classes": 80, "topk_per_image": 300, "test_score_thresh": 0.0}),
    ):
        assert {key: parts[key] for key in expected} == expected
    criterion = instantiate(load(SBL).model.criterion)
    assert (criterion.focal_alpha, criterion.focal_gamma) == (0.25, 2.0)
    assert (criterion.matcher.focal_alpha, criterion.matcher.focal_gamma) == (0.25, 2.0)


def test_rates_and_decay_of_the_largest_published_pyramid() -> None:
    cfg = load(SBL)
    cfg.optimizer.params.model = model = build(SBL)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in instantiate(cfg.optimizer).param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        path, exponent = name.split("."), 0.0
        if ".branches." in name:
            # Steps down from the heads: 24 blocks of the Large network, of 12 every second.
            stride = 1.0 if path[path.index("branches") + 1] == "0" else 2.0
            is_block = "blocks" in path
            exponent = 25.0
            if is_block:
                exponent -= (int(path[path.index("blocks") + 1]) + 1) * stride
        is_decayed = parameter.dim() != 1 and path[-1] != "bias"
        rate, decay = found[name]
        assert rate == pytest.approx(2e-4 * 0.85**exponent), name
        assert decay == (0.05 if is_decayed else 0.0), name
    for name in ("transformer.level_embeds", "denoising.label_enc.weight"):
        assert found[name] == (2e-4, 0.05)


def test_number_of_classes_on_the_command_line_reaches_all_parts() -> None:
    file = str(CONFIGS / "quick" / "dino_scenes.py")
    model = instantiate_on_meta(load_config(file, ["model.num_classes=7"]).model)
    assert model.num_classes == model.transformer.num_classes == 7
    assert {head.class_embed.out_features for head in model.transformer.heads} == {7}
    assert model.denoising.label_enc.num_embeddings == 7


def test_recomputation_is_switched_part_by_part_on_the_command_line() -> None:
    file = str(CONFIGS / "quick" / "dino_scenes.py")
    overrides = [
        "model.transformer.use_encoder_act_checkpoint=True",
        "model.backbone.bottom_up.branches.1.use_act_checkpoint=True",
    ]
    model = instantiate_on_meta(load_config(file, overrides).model)
    network = model.backbone.bottom_up
    assert model.transformer.encoder.use_act_checkpoint
    assert not model.transformer.decoder.use_act_checkpoint
    assert not network.use_act_checkpoint
    # Largest resolution first in the config, last in the network.
    switches = [branch.use_act_checkpoint for branch in network.branches]
    assert switches[-2] and sum(switches) == 1


def test_five_levels_train() -> None:
    cfg = load_config(
        str(CONFIGS / "quick" / "dino_scenes.py"),
        [
            "model.backbone.bottom_up.out_features=[res2,res3,res4,res5]",
            "model.backbone.num_levels=5",
        ],
    )
    released, ours = load_once(FIVE_LEVELS).model, cfg.model
    assert ours.backbone.num_levels == released.backbone.num_levels
    assert ours.backbone.bottom_up.out_features == released.backbone.bottom_up.out_features
    torch.manual_seed(0)
    model: DINO = instantiate(cfg.model).train()
    assert model.transformer.level_embeds.shape[0] == 5
    one_input = make_input((128, 128), 2)
    one_input["instances"].gt_classes %= cfg.model.num_classes
    losses = model([one_input])
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []


def test_five_levels_have_the_sizes_of_the_published_description() -> None:
    model = build(FIVE_LEVELS)
    shapes = model.backbone.output_shape()
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32, 64]
    attention = model.transformer.encoder.layers[0].self_attn
    assert attention.sampling_offsets.out_features == 320
    assert attention.attention_weights.out_features == 160
    assert len(model.backbone.convs) == 4 and len(model.backbone.extra_convs) == 1
    assert model.transformer.encoder.use_act_checkpoint
