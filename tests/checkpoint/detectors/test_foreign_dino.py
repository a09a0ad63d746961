"""Weights of DINO's authors and of detrex find their places."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchvision
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import Tensor

from piip_d2.checkpoint import convert_detector_state_dict
from piip_d2.checkpoint.detectors.form import DetectorForm
from piip_d2.checkpoint.detectors.names import rename_detector, take_weights
from piip_d2.checkpoint.detectors.sources import recognize_source
from piip_d2.modeling import DINO, ChannelMapper
from piip_d2.modeling.dino import (
    ContrastiveDenoising,
    DINOCriterion,
    HungarianMatcher,
    build_dino_transformer,
)
from tests.checkpoint.detectors.foreign import CATEGORY_IDS

LAYERS, WIDTH, HIDDEN, QUERIES, SAMPLES = 2, 32, 48, 20, 8 * 4 * 4
_ATTENTION = {
    "sampling_offsets": 2 * SAMPLES,
    "attention_weights": SAMPLES,
    "value_proj": WIDTH,
    "output_proj": WIDTH,
}


def resnet() -> ResNet:
    names = ["res3", "res4", "res5"]
    stages = ResNet.make_default_stages(50, stride_in_1x1=False, norm="FrozenBN")
    return ResNet(BasicStem(3, 64, norm="FrozenBN"), stages, out_features=names)


@pytest.fixture(scope="module")
def model() -> DINO:
    with torch.device("meta"):
        return DINO(
            backbone=ChannelMapper(
                resnet(), ["res3", "res4", "res5"], WIDTH, num_groups=8, bias=True
            ),
            transformer=build_dino_transformer(
                num_classes=80,
                embed_dim=WIDTH,
                feedforward_dim=HIDDEN,
                num_encoder_layers=LAYERS,
                num_decoder_layers=LAYERS,
                num_queries=QUERIES,
            ),
            criterion=DINOCriterion(HungarianMatcher()),
            denoising=ContrastiveDenoising(80, WIDTH),
            num_classes=80,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )


def linear(name: str, width: int, inputs: int = WIDTH) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width, inputs)
    yield f"{name}.bias", (width,)


def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (WIDTH,)
    yield f"{name}.bias", (WIDTH,)


def deformable(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part, width in _ATTENTION.items():
        yield from linear(f"{name}.{part}", width)


def self_attention(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.in_proj_weight", (3 * WIDTH, WIDTH)
    yield f"{name}.in_proj_bias", (3 * WIDTH,)
    yield from linear(f"{name}.out_proj", WIDTH)


def box_head(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer, width in enumerate((WIDTH, WIDTH, 4)):
        yield from linear(f"{name}.layers.{layer}", width)


def shared() -> Iterator[tuple[str, tuple[int, ...]]]:
    """What the authors and detrex name alike."""
    yield "transformer.tgt_embed.weight", (QUERIES, WIDTH)
    yield from linear("transformer.enc_output", WIDTH)
    yield from norm("transformer.enc_output_norm")
    yield from norm("transformer.decoder.norm")
    yield from linear("transformer.decoder.ref_point_head.layers.0", WIDTH, 2 * WIDTH)
    yield from linear("transformer.decoder.ref_point_head.layers.1", WIDTH)


def authors_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from shared()
    yield "transformer.level_embed", (4, WIDTH)
    yield "label_enc.weight", (92, WIDTH)
    for level, (inputs, side) in enumerate([(512, 1), (1024, 1), (2048, 1), (2048, 3)]):
        yield f"input_proj.{level}.0.weight", (WIDTH, inputs, side, side)
        yield f"input_proj.{level}.0.bias", (WIDTH,)
        yield from norm(f"input_proj.{level}.1")
    for layer in range(LAYERS):
        encoder, decoder = (f"transformer.{part}.layers.{layer}" for part in ("encoder", "decoder"))
        yield from deformable(f"{encoder}.self_attn")
        yield from deformable(f"{decoder}.cross_attn")
        yield from self_attention(f"{decoder}.self_attn")
        for name, norms in ((encoder, 2), (decoder, 3)):
            yield from linear(f"{name}.linear1", HIDDEN)
            yield from linear(f"{name}.linear2", WIDTH, HIDDEN)
            for number in range(1, norms + 1):
                yield from norm(f"{name}.norm{number}")
        for prefix in ("", "transformer.decoder."):
            yield from linear(f"{prefix}class_embed.{layer}", 91)
            yield from box_head(f"{prefix}bbox_embed.{layer}")
    yield from linear("transformer.enc_out_class_embed", 91)
    yield from box_head("transformer.enc_out_bbox_embed")
    with torch.device("meta"):
        body = torchvision.models.resnet50(
            norm_layer=torchvision.ops.misc.FrozenBatchNorm2d
        ).state_dict()
    for name, x in body.items():
        if not name.startswith("fc."):
            yield f"backbone.0.body.{name}", tuple(x.shape)


def detrex_keys() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from shared()
    yield "transformer.level_embeds", (4, WIDTH)
    yield "label_enc.weight", (80, WIDTH)
    for name, inputs in (("convs.0", 512), ("convs.1", 1024), ("convs.2", 2048)):
        yield f"neck.{name}.conv.weight", (WIDTH, inputs, 1, 1)
    yield "neck.extra_convs.0.conv.weight", (WIDTH, 2048, 3, 3)
    for name in ("convs.0", "convs.1", "convs.2", "extra_convs.0"):
        yield f"neck.{name}.conv.bias", (WIDTH,)
        yield from norm(f"neck.{name}.norm")
    for layer in range(LAYERS):
        encoder, decoder = (f"transformer.{part}.layers.{layer}" for part in ("encoder", "decoder"))
        yield from deformable(f"{encoder}.attentions.0")
        yield from self_attention(f"{decoder}.attentions.0.attn")
        yield from deformable(f"{decoder}.attentions.1")
        for name, norms in ((encoder, 2), (decoder, 3)):
            yield from linear(f"{name}.ffns.0.layers.0.0", HIDDEN)
            yield from linear(f"{name}.ffns.0.layers.1", WIDTH, HIDDEN)
            for number in range(norms):
                yield from norm(f"{name}.norms.{number}")
    for head in range(LAYERS + 1):
        for prefix in ("", "transformer.decoder."):
            yield from linear(f"{prefix}class_embed.{head}", 80)
            yield from box_head(f"{prefix}bbox_embed.{head}")
    with torch.device("meta"):
        backbone = resnet().state_dict()
    for name, x in backbone.items():
        yield f"backbone.{name}", tuple(x.shape)


def without_numbers(keys: Iterator[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in keys}


def convert(weights: dict[str, Tensor], source: str | None = None) -> dict[str, Tensor]:
    return convert_detector_state_dict(weights, "dino", source)


@pytest.mark.parametrize(("source", "keys"), [("authors", authors_keys), ("detrex", detrex_keys)])
def test_every_weight_has_its_place(model: DINO, source: str, keys) -> None:
    weights = without_numbers(keys())
    assert recognize_source(weights) == source
    converted = convert(weights)
    wanted = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    assert {name: tuple(x.shape) for name, x in converted.items()} == wanted


def test_classes_that_exist_are_kept() -> None:
    # Rows are the numbers of categories in COCO's files; 80 of 0 ... 90 exist.
    weights = {
        "class_embed.0.bias": torch.arange(91),
        "class_embed.0.weight": torch.arange(91)[:, None],
        "label_enc.weight": torch.arange(92)[:, None],
    }
    converted = convert(weights, "authors")
    kept = converted["transformer.heads.0.class_embed.bias"]
    assert kept.tolist() == CATEGORY_IDS
    assert torch.equal(converted["denoising.label_enc.weight"][:, 0], kept)


@pytest.mark.parametrize("classes", [5, 91])
def test_other_classes_are_all_kept(classes: int) -> None:
    form = DetectorForm("dino", "authors", has_branches=False, num_classes=classes)
    weights = {
        "class_embed.0.bias": torch.arange(classes),
        "label_enc.weight": torch.arange(classes + 1)[:, None],
    }
    taken = take_weights(weights, rename_detector(weights, form), form)
    assert {len(x) for x in taken.values()} == {classes}


def test_norms_of_the_authors_decoder_are_numbered_by_age() -> None:
    weights = {f"transformer.decoder.layers.1.norm{n}.weight": torch.tensor(n) for n in (1, 2, 3)}
    layer = "transformer.decoder.layers.1"
    assert {name: int(x) for name, x in convert(weights, "authors").items()} == {
        f"{layer}.cross_attn_norm.weight": 1,
        f"{layer}.self_attn_norm.weight": 2,
        f"{layer}.ffn_norm.weight": 3,
    }


def test_heads_that_are_stored_once_are_given_to_every_layer() -> None:
    weights = {f"transformer.decoder.layers.{n}.norm1.bias": torch.ones(1) for n in range(3)}
    weights["transformer.decoder.class_embed.0.bias"] = torch.full((80,), 5.0)
    converted = convert(weights, "authors")
    heads = [f"transformer.heads.{layer}.class_embed.bias" for layer in range(3)]
    assert [name for name in converted if "heads" in name] == heads
    assert all((converted[name] == 5.0).all() for name in heads)


def test_second_names_must_be_of_the_same_weights() -> None:
    form = DetectorForm("dino", "detrex", has_branches=False)
    head, second = torch.ones(80), "transformer.decoder.class_embed.{}.bias"
    weights = {"class_embed.0.bias": head, second.format(0): head.clone()}
    weights |= {"class_embed.1.bias": head, second.format(1): 2 * head}
    renamed = rename_detector(weights, form)
    assert list(renamed.dropped) == [second.format(0)]
    assert renamed.contradictory == {"class_embed.1.bias": second.format(1)}
    message = r"stored twice with different values, such as class_embed\.1\.bias and transformer"
    with pytest.raises(ValueError, match=message):
        convert_detector_state_dict(weights, "dino", "detrex")


@pytest.mark.parametrize(
    ("source", "prefix"), [("authors", "backbone.0."), ("detrex", "backbone.")]
)
def test_swin_has_the_same_names_everywhere(source: str, prefix: str) -> None:
    name = "layers.0.blocks.1.attn.qkv.bias"
    (ours,) = convert({f"{prefix}{name}": torch.ones(3)}, source)
    assert ours == f"backbone.bottom_up.{name}"


def test_a_backbone_without_branches_is_unknown_to_piip() -> None:
    weights = {"backbone.res2.0.conv1.weight": torch.ones(1), "label_enc.weight": torch.ones(80, 1)}
    renamed = rename_detector(weights, DetectorForm("dino", "detrex"))
    assert renamed.foreign == ["backbone.res2.0.conv1.weight"]
    assert list(renamed.sources) == ["denoising.label_enc.weight"]


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["bbox_head.transformer.level_embeds"], "mmdet"),
        (["bbox_head.cls_branches.0.bias", "memory_trans_fc.bias"], "mmdet3"),
        (["class_embed.0.bias", "neck.convs.0.conv.bias"], "detrex"),
        (["class_embed.0.bias", "input_proj.0.0.bias"], "authors"),
        (["roi_head.mask_head.upsample.bias"], "mmdet"),
        (["fc.weight"], None),
    ],
)
def test_sources_are_told_by_names(names: list[str], source: str | None) -> None:
    assert recognize_source(names) == source


def test_unknown_sources_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="source must be one of"):
        convert({}, "nobody")
    with pytest.raises(KeyError, match="1 keys are unknown"):
        convert({"transformer.what": torch.ones(1)}, "detrex")
    with pytest.raises(ValueError, match="weights of detrex are those of a DINO"):
        convert_detector_state_dict({}, "mask_rcnn", "detrex")
