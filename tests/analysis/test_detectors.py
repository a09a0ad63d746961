"""Necks and heads of Detectron2's detectors."""

from __future__ import annotations

import copy

import pytest
from torch import nn

from piip_d2.analysis import count_costs
from piip_d2.analysis.configs import build_without_numbers
from tests.analysis.small import CONFIG, small_detector

CHANNELS, SIDE = 64, 256


def test_necks_and_heads_equal_closed_forms() -> None:
    model = small_detector()
    report = count_costs(model)
    assert report.params == sum(parameter.numel() for parameter in model.parameters())
    cells = {stride: (SIDE // stride) ** 2 for stride in (4, 8, 16, 32, 64)}
    square = CHANNELS**2
    levels = [cells[stride] for stride in (4, 8, 16, 32)]
    resized = sum(levels[:-1]) * CHANNELS
    assert report.part("neck").flops == sum(levels) * 10 * square + resized + cells[32] * CHANNELS
    anchors = 3
    rpn = 9 * square + CHANNELS * anchors * 5
    assert report.part("rpn_head").flops == sum(cells.values()) * rpn
    hidden, classes, proposals = 256, 4, 200
    box = 49 * CHANNELS * hidden + hidden**2 + hidden * (classes + 1 + 4 * classes)
    assert report.part("box_head").flops == proposals * box
    detections = 100
    mask = 14**2 * 2 * 9 * square + 14**2 * 4 * square + 28**2 * CHANNELS * classes
    assert report.part("mask_head").flops == detections * mask
    assert any("200 proposals" in note and "100 detections" in note for note in report.notes)


def test_backbones_have_a_neck_and_no_heads() -> None:
    model = small_detector()
    whole, backbone = count_costs(model), count_costs(model.backbone)
    assert backbone.part("neck") == whole.part("neck")
    assert "rpn_head" not in [part.name for part in backbone.parts]
    network = count_costs(model.backbone.bottom_up)
    assert "neck" not in [part.name for part in network.parts]
    assert network.flops == backbone.flops - backbone.part("neck").flops


def test_every_head_of_a_cascade_counts() -> None:
    model = small_detector()
    single = count_costs(model).part("box_head")
    heads = model.roi_heads
    for name in ("box_head", "box_predictor"):
        stages = [copy.deepcopy(getattr(heads, name)) for _ in range(3)]
        delattr(heads, name)
        setattr(heads, name, nn.ModuleList(stages))
    cascade = count_costs(model).part("box_head")
    assert (cascade.flops, cascade.params) == (3 * single.flops, 3 * single.params)


def test_detectors_without_masks() -> None:
    report = count_costs(build_without_numbers("configs/quick/faster_rcnn_scenes.py"))
    assert "mask_head" not in [part.name for part in report.parts]
    assert report.part("box_head").flops > 0


def test_heads_without_a_rule_are_named() -> None:
    model = small_detector()
    expected = count_costs(model).params
    model.roi_heads = nn.Linear(3, 3, device="meta")
    report = count_costs(model)
    assert "Linear is not counted: there is no rule for it." in report.notes
    assert report.part("other").params == 12
    assert report.params < expected


def test_images_are_filled_up_as_the_backbone_asks() -> None:
    model = build_without_numbers(CONFIG)
    assert count_costs(model, image_size=(200, 130)).image_size == (256, 192)


def test_models_without_piip_are_refused() -> None:
    for convention in ("paper", "released_script", "actual"):
        with pytest.raises(ValueError, match="Linear has none"):
            count_costs(nn.Linear(3, 3), convention=convention)


def test_transformer_of_dino_equals_closed_forms() -> None:
    report = count_costs(build_without_numbers("configs/quick/dino_scenes.py"))
    width, hidden, classes, queries, samples = CHANNELS, 256, 4, 60, 8 * 4 * 4
    tokens = sum((SIDE // stride) ** 2 for stride in (8, 16, 32, 64))
    norm, square = 5 * width, width**2
    asked = 3 * width * samples + square + 2 * width * hidden
    encoder_layer = tokens * (square + asked + 2 * norm)
    box_head = 2 * square + 4 * width
    selection = tokens * (square + norm + width * classes) + queries * box_head
    decoder_layer = tokens * square + queries * (3 * square + 4 * square + asked + 4 * norm)
    # Every layer but the last also moves the boxes of its queries.
    heads = queries * (3 * width * classes + (3 + 2) * box_head)
    flops = 2 * encoder_layer + selection + 3 * decoder_layer + heads
    part = report.part("transformer")
    assert part.flops - part.attention_flops == flops
    assert any("without noisy queries" in note for note in report.notes)
