"""Whole DINOs of other programs compute the same here, whatever stands around their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torch import Tensor, nn

from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.conversion import ConversionError, convert_checkpoint
from tests.checkpoint.detectors.foreign import WRITERS

CONFIG = str(Path(__file__).with_name("resnet_dino_config.py"))
BIASED = "model.backbone.bias=True"
FIVE_SCALES = ["model.backbone.num_levels=5", "model.backbone.in_features=[res2,res3,res4,res5]"]
AS_DETREX = [
    "model.transformer.position_temperature=10000",
    "model.transformer.position_offset=-0.5",
]
# What makes our model compute as the program does.
OVERRIDES = {"authors": [BIASED], "detrex": [BIASED, *AS_DETREX], "mmdet": [], "mmdet3": []}
CONTAINERS = {"authors": "model", "detrex": "model", "mmdet": "state_dict", "mmdet3": "module"}


def build(overrides: list[str]) -> nn.Module:
    cfg = LazyConfig.apply_overrides(LazyConfig.load(CONFIG), overrides)
    return instantiate(cfg.model).eval()


def random_model(overrides: list[str], *, share_heads: bool = False) -> nn.Module:
    torch.manual_seed(3)
    model = build(overrides)
    with torch.no_grad():
        for x in [*model.parameters(), *model.backbone.bottom_up.buffers()]:
            x += 0.1 * (torch.rand_like(x) - 0.3)
        if share_heads:
            first, *others = model.transformer.heads[:-1]
            for other in others:
                other.load_state_dict(first.state_dict())
    return model


def save(folder: Path, source: str, model: nn.Module) -> str:
    theirs = WRITERS[source](model.state_dict())
    torch.save({CONTAINERS[source]: theirs, "epoch": 12}, folder / "theirs.pth")
    return str(folder / "theirs.pth")


@torch.no_grad()
def detect(model: nn.Module) -> Tensor:
    image = torch.arange(3 * 64 * 96).reshape(3, 64, 96) % 251
    found = model([{"image": image}])[0]["instances"]
    return torch.cat(
        [found.pred_boxes.tensor, found.scores[:, None], found.pred_classes[:, None]], 1
    )


@pytest.mark.parametrize("scales", [[], FIVE_SCALES], ids=["4", "5"])
@pytest.mark.parametrize("source", sorted(WRITERS))
def test_outputs_are_those_of_the_source(tmp_path: Path, source: str, scales: list[str]) -> None:
    overrides = [*OVERRIDES[source], *scales]
    model = random_model(overrides, share_heads=source == "authors")
    file = save(tmp_path, source, model)
    report = convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=overrides)
    again = build(overrides)
    AtomicCheckpointer(again).load_for("evaluate", str(tmp_path / "ours.pth"))
    assert sorted(report.matched) == sorted(model.state_dict())
    assert not report.remarks
    assert torch.equal(detect(again), detect(model))
    expected = {
        "authors": {"second names of weights that are there"},
        "detrex": {"second names of weights that are there"},
    }.get(source, {"counts of batches, which frozen norms do not have"})
    assert set(report.dropped.values()) == expected
    assert len(report.cut) == (3 + 1) * 2 + 1 if source == "authors" else not report.cut


def test_files_without_biases_fill_them_with_zeros(tmp_path: Path) -> None:
    model = random_model([])
    file = save(tmp_path, "mmdet3", model)
    report = convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=[BIASED])
    again = build([BIASED])
    AtomicCheckpointer(again).load_for("evaluate", str(tmp_path / "ours.pth"))
    assert torch.equal(detect(again), detect(model))
    assert len(report.added) == 4 and "have no biases" in str(report)


def test_biases_are_not_lost(tmp_path: Path) -> None:
    file = save(tmp_path, "detrex", random_model([BIASED]))
    with pytest.raises(ConversionError, match="give model.backbone.bias=True") as caught:
        convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=AS_DETREX)
    assert "neck.convs.*.conv.bias x3" in str(caught.value.report)


def test_what_no_weight_shows_is_remarked(tmp_path: Path) -> None:
    overrides = [BIASED, "model.pixel_std=[1,1,1]", "model.backbone.bottom_up.stride_in_1x1=True"]
    file = save(tmp_path, "detrex", random_model(overrides))
    report = convert_checkpoint(
        file, CONFIG, tmp_path / "ours.pth", overrides=[*overrides, "model.input_format=BGR"]
    )
    position, std, order, stride = report.remarks
    assert position.endswith(f"give {' '.join(AS_DETREX)}")
    assert std.endswith("give model.pixel_std=[58.395,57.12,57.375]")
    assert "take images as RGB, the config as BGR" in order
    assert "stride_in_1x1=False" in stride
    assert f"remark: {position}" in str(report)


def test_labels_without_noisy_queries_are_dropped(tmp_path: Path) -> None:
    file = save(tmp_path, "mmdet", random_model([]))
    overrides = ["model.denoising=null"]
    report = convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=overrides)
    assert "bbox_head.label_embedding.weight" in report.dropped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model.transformer.num_queries=9",
            "12 queries, .* give model.transformer.num_queries=12 ",
        ),
        ("model.transformer.num_encoder_layers=1", "2 layers in the encoder, but the config has 1"),
        ("model.transformer.feedforward_dim=40", "give model.transformer.feedforward_dim=48 "),
        ("model.num_classes=3", "80 classes, but the config has 3: give model.num_classes=80 "),
        ("model.backbone.num_levels=5", "4 feature maps, but the config has 5"),
    ],
)
def test_other_sizes_are_told(tmp_path: Path, change: str, message: str) -> None:
    file = save(tmp_path, "detrex", random_model([BIASED]))
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=[BIASED, change])


@pytest.mark.parametrize("source", ["authors", "detrex"])
def test_second_names_with_other_values_are_told(tmp_path: Path, source: str) -> None:
    file = save(tmp_path, source, random_model([BIASED], share_heads=True))
    contents = torch.load(file, weights_only=True)
    name = "transformer.decoder.bbox_embed.1.layers.0.bias"
    contents["model"][name] = contents["model"][name] + 1
    torch.save(contents, file)
    message = f"stored twice with different values, such as .* and {name}, .* 1 contradictory"
    with pytest.raises(ConversionError, match=message) as caught:
        convert_checkpoint(file, CONFIG, tmp_path / "ours.pth", overrides=[BIASED])
    assert not caught.value.report.unexpected
    assert "transformer.decoder.bbox_embed.*" in str(caught.value.report)


@pytest.mark.parametrize("config", ["resnet_dino_config.py", "official_dino_config.py"])
def test_another_backbone_is_listed(tmp_path: Path, config: str) -> None:
    weights = WRITERS["authors"](random_model([BIASED], share_heads=True).state_dict())
    swin = {
        name.replace("backbone.0.body.layer", "backbone.0.layers."): x
        for name, x in weights.items()
    }
    torch.save({"model": swin}, tmp_path / "theirs.pth")
    with pytest.raises(ConversionError, match="of another backbone") as caught:
        convert_checkpoint(
            str(tmp_path / "theirs.pth"),
            str(Path(__file__).with_name(config)),
            tmp_path / "ours.pth",
            overrides=[BIASED, "model.num_classes=80"],
        )
    assert "have no names there; take a config with the backbone" in str(caught.value)
    backbone = [name for name in swin if name.startswith("backbone.")]
    assert sorted(caught.value.report.foreign) == sorted(backbone)
    assert not (tmp_path / "ours.pth").exists()
