"""Settings that are refused, and Detectron2's yacs configuration."""

from __future__ import annotations

import math

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from piip_d2.config import add_dino_config
from piip_d2.modeling import DINO
from piip_d2.modeling.dino import (
    ContrastiveDenoising,
    DINOCriterion,
    HungarianMatcher,
    build_dino_transformer,
)
from tests.modeling.dino.tiny import build_small_model, make_input


def test_classes_must_agree() -> None:
    model = build_small_model()
    with pytest.raises(ValueError, match="denoising for 7"):
        DINO(
            backbone=model.backbone,
            transformer=model.transformer,
            criterion=model.criterion,
            denoising=ContrastiveDenoising(7, 32),
            num_classes=5,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("num_decoder_layers", 0, "num_decoder_layers must be 1 or more, got 2 and 0; 6 is"),
        # Without one, the embedding of the levels would have no part in the losses.
        ("num_encoder_layers", 0, "num_encoder_layers and .* must be 1 or more, got 0 and 3; 6 is"),
        ("num_queries", 0, "num_queries must be 1 or more, got 0; 900 is usual"),
    ],
)
def test_transformers_of_nothing_are_refused(option: str, value: int, message: str) -> None:
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 3, "num_queries": 9}
    with pytest.raises(ValueError, match=message):
        build_dino_transformer(num_classes=5, embed_dim=32, **(sizes | {option: value}))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("num_queries", -5, "1 or more, got -5; to train without .* set model.denoising=null"),
        ("num_queries", 0, "1 or more, got 0; to train without .* set model.denoising=null"),
        ("label_noise", 7, "label_noise must be from 0 to 2, .*, got 7; 0.5 is usual"),
        ("label_noise", -0.1, "label_noise must be from 0 to 2, .*, got -0.1"),
        ("label_noise", math.nan, "label_noise must be from 0 to 2, .*, got nan"),
        ("box_noise", -1.0, "box_noise must be a finite number from 0 on, got -1.0; 1.0 is usual"),
        ("box_noise", math.inf, "box_noise must be a finite number from 0 on, got inf"),
    ],
)
def test_noise_out_of_range_is_refused(option: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastiveDenoising(5, 32, **{option: value})


def small_yacs_config() -> CfgNode:
    cfg = get_cfg()
    add_dino_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "DINO"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.DINO.NUM_CLASSES = 3
    cfg.MODEL.DINO.NUM_ENCODER_LAYERS = cfg.MODEL.DINO.NUM_DECODER_LAYERS = 1
    cfg.MODEL.DINO.FEEDFORWARD_DIM = 64
    cfg.MODEL.DINO.NUM_HEADS = 4
    return cfg


def test_detectron2_builds_it_from_yacs() -> None:
    cfg = small_yacs_config()
    cfg.MODEL.DINO.NECK_BIAS = True
    cfg.MODEL.DINO.NUM_POINTS = 2
    cfg.MODEL.DINO.POSITION_TEMPERATURE = 10000.0
    cfg.MODEL.DINO.POSITION_OFFSET = -0.5
    cfg.MODEL.DINO.USE_ENCODER_ACT_CHECKPOINT = True
    cfg.MODEL.DINO.NUM_DENOISING_QUERIES = 7
    cfg.MODEL.DINO.LABEL_NOISE, cfg.MODEL.DINO.BOX_NOISE = 0.2, 0.4
    cfg.MODEL.DINO.CLASS_WEIGHT, cfg.MODEL.DINO.BBOX_WEIGHT = 1.5, 2.5
    cfg.MODEL.DINO.GIOU_WEIGHT = 3.5
    cfg.MODEL.DINO.TEST_SCORE_THRESH = 0.3
    model = build_model(cfg)
    assert isinstance(model, DINO)
    transformer = model.transformer
    positions = transformer.position_encoding
    assert (positions.temperature, positions.offset) == (10000.0, -0.5)
    assert transformer.encoder.use_act_checkpoint and not transformer.decoder.use_act_checkpoint
    assert transformer.decoder.layers[0].self_attn.num_heads == 4
    # Heads, levels, points and two coordinates.
    offsets = transformer.encoder.layers[0].self_attn.sampling_offsets
    assert offsets.out_features == 4 * 4 * 2 * 2
    assert model.backbone.convs[0].conv.bias is not None
    noise = model.denoising
    assert (noise.num_queries, noise.label_noise, noise.box_noise) == (7, 0.2, 0.4)
    assert model.criterion.term_weights == (1.5, 2.5, 3.5)
    assert model.test_score_thresh == 0.3
    losses = model.train()([make_input((64, 96), 0)])
    assert len(losses) == 9


def test_yacs_defaults_are_those_of_the_parts() -> None:
    model = build_model(small_yacs_config())
    noise, expected = model.denoising, ContrastiveDenoising(3, 256)
    for name in ("num_queries", "label_noise", "box_noise"):
        assert getattr(noise, name) == getattr(expected, name)
    assert model.criterion.term_weights == DINOCriterion(HungarianMatcher()).term_weights
    assert model.test_score_thresh == 0.0


def test_yacs_without_noisy_queries() -> None:
    cfg = small_yacs_config()
    cfg.MODEL.DINO.NUM_DENOISING_QUERIES = 0
    model = build_model(cfg).train()
    assert model.denoising is None
    assert len(model([make_input((64, 96), 1)])) == 6
