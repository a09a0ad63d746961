"""A whole DINO from the authors' file to a model that computes the same, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor

from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.conversion import (
    ConversionError,
    build_without_memory,
    convert_checkpoint,
    match_weights,
)
from tests.engine.conversion.dino_keys import dino_head_keys
from tests.engine.conversion.official_weights import official_weights
from tests.golden.cases import BackboneCase
from tests.modeling.dino.tiny import load_golden

CONFIG = str(Path(__file__).with_name("official_dino_config.py"))
RESNET = str(Path(__file__).with_name("resnet_dino_config.py"))
CASE = "two_branch_dino"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A detector as the authors' code saves it: a small backbone with fitting heads."""
    return official_weights(CASE, load_golden()["state_dict"], "neck.")


@pytest.fixture
def source(tmp_path: Path, weights: dict[str, Tensor]) -> str:
    torch.save({"meta": {"epoch": 12}, "state_dict": weights}, tmp_path / "official.pth")
    return str(tmp_path / "official.pth")


@torch.no_grad()
def test_converted_file_computes_what_the_reference_computed(tmp_path: Path, source: str) -> None:
    output = tmp_path / "ours.pth"
    report = convert_checkpoint(source, CONFIG, output)
    model = instantiate(LazyConfig.load(CONFIG).model).eval()
    AtomicCheckpointer(model).load_for("evaluate", str(output))
    assert sorted(report.matched) == sorted(model.state_dict())
    assert report.is_complete and not report.dropped

    case = BackboneCase(CASE)
    maps = model.backbone.bottom_up(case.io["square.input"]).values()
    for actual, expected in zip(maps, case.outputs("square"), strict=True):
        assert (actual - expected).abs().max() < 2e-5 * expected.abs().max()

    golden = load_golden()
    output = model.transformer(golden["neck"], golden["sizes"], golden["pad"])
    torch.testing.assert_close(output.decoder.boxes, golden["box"], atol=1e-4, rtol=0)
    torch.testing.assert_close(output.decoder.logits, golden["cls"], atol=1e-4, rtol=0)


def test_there_and_back(tmp_path: Path, source: str, weights: dict[str, Tensor]) -> None:
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    convert_checkpoint(source, CONFIG, ours)
    report = convert_checkpoint(str(ours), CONFIG, back, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert sorted(report.matched) == sorted(official) == sorted(weights)
    assert all(torch.equal(official[name], x) for name, x in weights.items())


def test_the_way_back_without_noisy_queries_adds_labels(tmp_path: Path, source: str) -> None:
    ours, back, overrides = tmp_path / "ours.pth", tmp_path / "back.pth", ["model.denoising=null"]
    convert_checkpoint(source, CONFIG, ours, overrides=overrides)
    report = convert_checkpoint(str(ours), CONFIG, back, overrides=overrides, to_official=True)
    official = torch.load(back, weights_only=True)["state_dict"]
    assert list(report.added) == ["bbox_head.label_embedding.weight"]
    assert official["bbox_head.label_embedding.weight"].shape == (7, 64)
    assert sorted(official) == sorted(torch.load(source, weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        (CONFIG, "model.backbone.bias=True", "no biases in the neck of DINO"),
        (RESNET, "train.max_iter=2", "on a PIIP backbone alone, the config has a ResNet"),
    ],
)
def test_what_the_authors_code_cannot_build_is_not_written(
    tmp_path: Path, source: str, config: str, override: str, message: str
) -> None:
    output = tmp_path / "back.pth"
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(source, config, output, overrides=[override], to_official=True)
    assert not output.exists()


def test_the_way_back_remarks_other_positions(tmp_path: Path, source: str) -> None:
    ours, overrides = tmp_path / "ours.pth", ["model.transformer.position_offset=-0.5"]
    assert convert_checkpoint(source, CONFIG, ours, overrides=overrides).remarks
    report = convert_checkpoint(
        str(ours), CONFIG, tmp_path / "back.pth", overrides=overrides, to_official=True
    )
    (remark,) = report.remarks
    assert "the config has 20 and -0.5; results there will be others" in remark


def test_other_numbers_of_layers_are_told(tmp_path: Path, source: str) -> None:
    message = "have 3 layers in the decoder, but the config has 4: give .*layers=3 "
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(
            source, CONFIG, tmp_path / "x.pth", overrides=["model.transformer.num_decoder_layers=4"]
        )


def test_upsampler_of_three_branches_is_dropped(weights: dict[str, Tensor]) -> None:
    unused = {"backbone.fpn1.0.weight": torch.ones(2), "backbone.fpn1.0.bias": torch.ones(2)}
    model = build_without_memory(LazyConfig.load(CONFIG))
    report = match_weights({**weights, **unused}, model).report
    assert report.is_complete and sorted(report.dropped) == sorted(unused)


def test_released_heads_have_as_many_weights_as_recorded() -> None:
    keys = dino_head_keys(64)
    assert len(keys) == 309
    assert round(sum(x.numel() for x in keys.values()) / 1e6, 2) == 18.75
