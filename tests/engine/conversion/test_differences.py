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
from piip_d2.engine.conversion import ConversionError, convert_checkpoint

CONFIG = str(Path(__file__).with_name("official_config.py"))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    model = instantiate(LazyConfig.load(CONFIG).model)
    layout = layout_of_network(model.backbone.bottom_up)
    return export_detector_state_dict(model.state_dict(), "mask_rcnn", layout)


def save(folder: Path, contents: Any) -> str:
    torch.save(contents, folder / "file.pth")
    return str(folder / "file.pth")


@pytest.mark.parametrize(
    ("change", "message", "part"),
    [
        (
            {"backbone.branch1.patch_embed.proj.weight": torch.zeros(96, 3, 16, 16)},
            "branch1 has 96 channels in these weights, but the config's at 64 pixels has 64: take "
            "the config that they were trained with (0 missing, 0 unexpected, 1 of another shape)",
            "(96, 3, 16, 16), (64, 3, 16, 16)",
        ),
        (
            {"backbone.w4": torch.ones(())},
            "the model has no place for backbone.w4 (); take the config that they were trained "
            "with (0 missing, 1 unexpected, 0 of another shape)",
            "backbone.w4",
        ),
        (
            {"bbox_head.what.weight": torch.ones(1)},
            "the model has no place for bbox_head.what.weight (1,)",
            "bbox_head.what.weight",
        ),
        (
            {"backbone.w2": None},
            "backbone.bottom_up.merge.weights.1 () is not in the file; take",
            "merge.weights.1",
        ),
        (
            {"rpn_head.rpn_reg.bias": torch.ones(16)},
            "proposal_generator.rpn_head.anchor_deltas.bias has the shape (16,) in the file and "
            "(12,) in the model",
            "anchor_deltas.bias: (16,), (12,)",
        ),
        (
            {"backbone.branch4.pos_embed": torch.zeros(1)},
            "of a network with 4 branches, but the config has 3",
            "backbone.branch4.pos_embed",
        ),
        (
            {"backbone.branch2.visual_embed.embeddings_norm.bias": torch.zeros(32)},
            "branch2 is a Uni-Perceiver in these weights, but the config's at 128 pixels is a ViT",
            "visual_embed",
        ),
    ],
)
def test_weights_of_other_models(
    tmp_path: Path, weights: dict[str, Tensor], change: dict[str, Any], message: str, part: str
) -> None:
    changed = {name: x for name, x in {**weights, **change}.items() if x is not None}
    with pytest.raises(ConversionError) as caught:
        convert_checkpoint(save(tmp_path, changed), CONFIG, tmp_path / "ours.pth")
    assert message in str(caught.value)
    assert part in str(caught.value.report)
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["backbone.bottom_up.merge.weights.0"], "have the names of this package already"),
        (["conv1.weight"], "no weights of a detector of .*: none of the 1 names"),
    ],
)
def test_weights_of_no_official_detector(tmp_path: Path, names: list[str], message: str) -> None:
    source = save(tmp_path, {name: torch.ones(()) for name in names})
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(source, CONFIG, tmp_path / "ours.pth")


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


def test_r_cnns_of_mmdetection_3_are_taken_as_those_of_2(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    # Their names are the same, so that they may be PIIP's with its pixel statistics.
    source = save(tmp_path, weights)
    assert not convert_checkpoint(source, CONFIG, tmp_path / "ours.pth", names="mmdet3").remarks


def test_copies_of_a_moving_average(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    copies = {f"ema_{name.replace('.', '_')}": x for name, x in weights.items()}
    report = convert_checkpoint(save(tmp_path, weights | copies), CONFIG, tmp_path / "ours.pth")
    assert set(copies) <= set(report.dropped)
    assert "what mmdetection's EMAHook keeps beside the weights" in str(report)


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
