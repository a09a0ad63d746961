"""Exported files say how they want their images, and what they find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.backbones import build_backbone
from piip_d2.export import export_backbone, export_detector
from piip_d2.export.description import describe_classes, describe_images
from piip_d2.export.files import METADATA_FILE
from tests.export.small import small_dino, small_mask_rcnn


def _metadata(path: Path) -> dict[str, str]:
    extra = {METADATA_FILE: ""}
    torch.export.load(path, extra_files=extra)
    content: dict[str, str] = json.loads(extra[METADATA_FILE])
    return content


def test_detector_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "dino.pt2"
    export_detector(small_dino(), path, (64, 64), class_names=["Bär", "cat", "dog"])
    metadata = _metadata(path)
    assert metadata.pop("images").startswith("as read, 0 to 255, in the upper left corner")
    assert metadata == {
        "part": "detector",
        "channel_order": "RGB",
        "pixel_mean": "[120.0, 120.0, 120.0]",
        "pixel_std": "[60.0, 60.0, 60.0]",
        "num_classes": "3",
        "class_names": '["Bär", "cat", "dog"]',
    }


def test_backbone_of_a_detector_says_by_what_to_normalise(tmp_path: Path) -> None:
    detector = small_mask_rcnn()
    detector.input_format = "BGR"
    export_backbone(detector, tmp_path / "backbone.pt2", (64, 64))
    metadata = _metadata(tmp_path / "backbone.pt2")
    assert (
        metadata["images"] == "normalised by pixel_mean and pixel_std, and then padded with zeros"
    )
    assert metadata["channel_order"] == "BGR"
    assert json.loads(metadata["pixel_std"]) == [58.395, 57.12, 57.375]


def test_decimals_are_those_of_the_config() -> None:
    model = nn.Module()
    model.register_buffer("pixel_mean", torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1))
    assert describe_images(model) == {"pixel_mean": "[123.675, 116.28, 103.53]"}


def test_published_backbone_knows_its_images() -> None:
    with without_numbers():
        backbone = build_backbone("piip_ct_vs_vb")
    assert describe_images(backbone) == {
        "channel_order": "RGB",
        "pixel_mean": "[123.675, 116.28, 103.53]",
        "pixel_std": "[58.395, 57.12, 57.375]",
    }


def test_classes_may_have_no_names() -> None:
    assert describe_classes(80, []) == {"num_classes": "80"}
    with pytest.raises(
        ValueError, match="one name for each of the 80 classes of the model, got 1;"
    ):
        describe_classes(80, ["cat"])
