"""Whole detectors from the authors' files to a model that computes the same, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import Tensor, nn

from piip_d2.engine.checkpointer import AtomicCheckpointer, CheckpointReadError, CheckpointSaveError
from piip_d2.engine.conversion import (
    ConversionError,
    build_without_memory,
    convert_checkpoint,
    match_weights,
)
from tests.engine.conversion.official_weights import official_weights
from tests.golden.cases import FOLDER, BackboneCase

CONFIG = str(Path(__file__).with_name("official_config.py"))
CASE = "tsb3_window_global"

pytestmark = pytest.mark.usefixtures("no_random_weights")


@pytest.fixture(scope="module")
def heads() -> dict[str, Any]:
    return torch.load(FOLDER / "mask_rcnn_tiny.pt", weights_only=True)


@pytest.fixture(scope="module")
def weights(heads: dict[str, Any]) -> dict[str, Tensor]:
    """A detector as the authors' code saves it: a small backbone with fitting heads."""
    return official_weights(CASE, heads["state_dict"], "neck.lateral_convs")


def save(folder: Path, contents: Any, name: str = "official.pth") -> str:
    torch.save(contents, folder / name)
    return str(folder / name)


def loaded_model(path: Path) -> nn.Module:
    model = instantiate(LazyConfig.load(CONFIG).model).eval()
    AtomicCheckpointer(model).load_for("evaluate", str(path))
    return model


@torch.no_grad()
def test_converted_file_computes_what_the_reference_computed(
    tmp_path: Path, weights: dict[str, Tensor], heads: dict[str, Any]
) -> None:
    source = save(tmp_path, {"meta": {"epoch": 12}, "state_dict": weights})
    output = tmp_path / "ours.pth"
    report = convert_checkpoint(source, CONFIG, output)
    model = loaded_model(output)
    assert sorted(report.matched) == sorted(model.state_dict())
    assert report.is_complete and not report.dropped

    case = BackboneCase(CASE)
    maps = model.backbone.bottom_up(case.io["square.input"]).values()
    for actual, expected in zip(maps, case.outputs("square"), strict=True):
        assert (actual - expected).abs().max() < 2e-5 * expected.abs().max()

    features = {f"p{level}": x for level, x in enumerate(heads["neck"], start=2)}
    height, width = heads["image_size"]
    images = ImageList(torch.zeros(1, 3, *heads["pad"]), [(height, width)])
    proposals, _ = model.proposal_generator(images, features)
    detections, _ = model.roi_heads(images, features, proposals)
    expected = heads["dets"][:, :4]
    assert torch.cdist(detections[0].pred_boxes.tensor, expected, p=float("inf")).amin(0).max() < (
        1e-4
    )


def test_metadata(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    output = tmp_path / "ours.pth"
    convert_checkpoint(
        save(tmp_path, weights), CONFIG, output, overrides=["model.pixel_mean=[1,2,3]"]
    )
    metadata = torch.load(output, weights_only=True)["metadata"]
    assert metadata["resolutions"] == [160, 128, 64]
    assert (metadata["pixel_mean"], metadata["pixel_std"]) == ([1.0, 2.0, 3.0], [127.5] * 3)
    assert metadata["channel_order"] == "RGB"
    assert metadata["converted_from"] == "official.pth"
    assert "num_interactions" in metadata["config"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_become_float32(
    tmp_path: Path, weights: dict[str, Tensor], dtype: torch.dtype
) -> None:
    # DeepSpeed keeps weights as slices of one buffer, and a file stores all of it.
    buffer = torch.cat([x.flatten() for x in weights.values()]).to(dtype)
    slices = buffer.split([x.numel() for x in weights.values()])
    stored = {
        f"module.{name}": part.view(x.shape)
        for (name, x), part in zip(weights.items(), slices, strict=True)
    }
    folder = tmp_path / "global_step12"
    folder.mkdir()
    save(folder, {"module": stored, "ds_version": "0.8"}, "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("global_step12\n")
    report = convert_checkpoint(str(tmp_path), CONFIG, tmp_path / "ours.pth")
    assert report.raised == {str(dtype).removeprefix("torch."): len(weights)}
    assert f"were {str(dtype).removeprefix('torch.')} and are float32 now" in str(report)
    converted = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    name = "roi_heads.box_predictor.cls_score.weight"
    expected = weights["roi_head.bbox_head.fc_cls.weight"].to(dtype).float()
    assert torch.equal(converted[name], expected)


def test_slices_are_stored_alone(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    buffer = torch.cat([x.flatten() for x in weights.values()])
    slices = buffer.split([x.numel() for x in weights.values()])
    stored = {
        name: part.view(x.shape) for (name, x), part in zip(weights.items(), slices, strict=True)
    }
    convert_checkpoint(save(tmp_path, stored), CONFIG, tmp_path / "ours.pth")
    converted = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    assert all(x.untyped_storage().nbytes() == x.numel() * 4 for x in converted.values())


def test_there_and_back(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    convert_checkpoint(save(tmp_path, {"model": weights}), CONFIG, ours)
    report = convert_checkpoint(str(ours), CONFIG, back, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert sorted(report.matched) == sorted(official) == sorted(weights)
    assert all(torch.equal(official[name], x) for name, x in weights.items())


def test_the_way_back_takes_the_moving_average(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    convert_checkpoint(save(tmp_path, weights), CONFIG, ours)
    contents = torch.load(ours, weights_only=True)
    average = {name: torch.full_like(x, 3.0) for name, x in contents["model"].items()}
    torch.save({**contents, "ema": {"weights": average}}, ours)
    convert_checkpoint(str(ours), CONFIG, back, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert all((x == 3.0).all() for x in official.values())


def test_what_the_authors_code_never_uses_is_dropped(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    unused = "backbone.branch1.blocks.0.attn.relative_position_index"
    source = save(tmp_path, {**weights, unused: torch.zeros(4, dtype=torch.int64)})
    report = convert_checkpoint(source, CONFIG, tmp_path / "ours.pth")
    assert list(report.dropped) == [unused]


def test_rows_of_class_tokens_are_cut_off(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    name = "backbone.branch2.pos_embed"
    longer = torch.cat([torch.full_like(weights[name][:, :1], 9.0), weights[name]], dim=1)
    report = convert_checkpoint(
        save(tmp_path, {**weights, name: longer}), CONFIG, tmp_path / "ours.pth"
    )
    assert list(report.cut) == [name]
    assert f"    {name}" in str(report)
    converted = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    assert torch.equal(converted["backbone.bottom_up.branches.1.pos_embed"], weights[name])


def test_upsampler_that_no_map_needs_is_dropped(weights: dict[str, Tensor]) -> None:
    cfg = LazyConfig.load(CONFIG)
    cfg.model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]
    cfg.model.backbone.in_features = ["res3", "res4", "res5"]
    report = match_weights(weights, build_without_memory(cfg)).report
    assert sorted(report.dropped) == sorted(n for n in weights if n.startswith("backbone.fpn1."))


def test_ours_must_fit_on_the_way_back(tmp_path: Path) -> None:
    source = save(tmp_path, {"model": {"a": torch.ones(1)}})
    with pytest.raises(ConversionError, match="not of the config's model: .* 1 unexpected"):
        convert_checkpoint(source, CONFIG, tmp_path / "back.pth", to_official=True)


def test_damage_is_found_before_anything_is_written(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    source = Path(save(tmp_path, weights))
    contents = bytearray(source.read_bytes())
    contents[len(contents) // 2] ^= 255
    source.write_bytes(contents)
    with pytest.raises(CheckpointReadError, match="is damaged in"):
        convert_checkpoint(str(source), CONFIG, tmp_path / "ours.pth")
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("official.pth", "is the source itself"),
        ("nowhere/ours.pth", "the output must lie in a folder that there is"),
        (".", "the output must be a file"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, output: str, message: str) -> None:
    source = save(tmp_path, {"a": torch.ones(1)})
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(source, CONFIG, tmp_path / output)


def test_full_disk(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path, weights)

    def fail(contents: Any, file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", fail)
    with pytest.raises(CheckpointSaveError, match="cannot write .*No space left"):
        convert_checkpoint(source, CONFIG, tmp_path / "ours.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["official.pth"]


def test_configs_of_other_detectors(tmp_path: Path) -> None:
    source = save(tmp_path, {"a": torch.ones(1)})
    toy = str(Path(__file__).parents[1] / "toy_config.py")
    with pytest.raises(ValueError, match="no Faster, Mask or Cascade R-CNN with an FPN"):
        convert_checkpoint(source, toy, tmp_path / "ours.pth")
