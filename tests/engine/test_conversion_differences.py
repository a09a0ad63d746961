"""What is said of files and configs that do not belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor

from piip_d2.checkpoint import export_detector_state_dict
from piip_d2.checkpoint.network_layout import layout_of_network
from piip_d2.engine.conversion import convert_checkpoint
from piip_d2.engine.conversion_report import ConversionError

CONFIG = str(Path(__file__).with_name("official_config.py"))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    model = instantiate(LazyConfig.load(CONFIG).model)
    layout = layout_of_network(model.backbone.bottom_up)
    return export_detector_state_dict(model.state_dict(), "mask_rcnn", layout)


def save(folder: Path, contents: Any) -> str:
    torch.save(contents, folder / "file.pth")
    return str(folder / "file.pth")


def test_weights_of_other_classes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    source = save(tmp_path, weights)
    message = "have 7 classes, but the config has 5: give model.roi_heads.num_classes=7"
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(
            source, CONFIG, tmp_path / "ours.pth", overrides=["model.roi_heads.num_classes=5"]
        )


@pytest.mark.parametrize(("finest", "is_remarked"), [(160, False), (192, True)])
def test_weights_of_other_resolutions(
    tmp_path: Path, weights: dict[str, Tensor], finest: int, is_remarked: bool
) -> None:
    branches = ", ".join(
        f"branch{number}=dict(real_size={size}, depth=4)"
        for number, size in enumerate((64, 128, finest), start=1)
    )
    config = f"model = dict(type='MaskRCNN', backbone=dict(type='PIIPThreeBranch', {branches}))"
    source = save(tmp_path, {"state_dict": weights, "meta": {"config": config}})
    report = convert_checkpoint(source, CONFIG, tmp_path / "ours.pth")
    said = "at the resolutions [192, 128, 64], but the config has [160, 128, 64]" in str(report)
    assert said == is_remarked == bool(report.remarks)


@pytest.mark.parametrize("key", ["config", "cfg"])
def test_weights_of_other_pixel_statistics(
    tmp_path: Path, weights: dict[str, Tensor], key: str
) -> None:
    text = "norm = dict(\n    mean=[123.675, 116.28, 103.53], std=[127.5, 127.5, 127.5])"
    source = save(tmp_path, {"state_dict": weights, "meta": {key: text}})
    (remark,) = convert_checkpoint(source, CONFIG, tmp_path / "ours.pth").remarks
    assert remark.startswith("these weights were trained with the pixel_mean 123.675,116.28,103.53")
    overrides = [remark.split("give ")[1]]
    cured = convert_checkpoint(source, CONFIG, tmp_path / "ours.pth", overrides=overrides)
    assert not cured.remarks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("merge=single_conv", "has a SingleConvBranchMerge"),
        ("feature_norm=layer", "with group norms"),
    ],
)
def test_what_the_authors_code_cannot_load_is_not_written(
    tmp_path: Path, change: str, message: str
) -> None:
    own, change = save(tmp_path, {}), f"+model.backbone.bottom_up.{change}"
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(own, CONFIG, tmp_path / "back.pth", overrides=[change], to_official=True)
