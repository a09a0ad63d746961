"""Weights of our detectors as other programs store them, by rules of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# COCO's numbers of its categories, as its annotation files have them.
CATEGORY_IDS = [
    *range(1, 12),
    *range(13, 26),
    *range(27, 29),
    *range(31, 45),
    *range(46, 66),
    67,
    70,
    *range(72, 83),
    *range(84, 91),
]
_NECK = re.compile(r"backbone\.(extra_)?convs\.(\d+)\.(conv|norm)\.(.*)")
_LAYER = re.compile(r"transformer\.(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(.*)")
_HEAD = re.compile(r"transformer\.heads\.(\d+)\.(class|bbox)_embed\.(.*)")
_BLOCK = re.compile(r"res(\d)\.(\d+)\.(conv\d|shortcut)\.(norm\.)?(.*)")


def as_torchvision(name: str) -> str:
    """A weight of Detectron2's ResNet, without prefix."""
    if name.startswith("stem."):
        return name.replace("stem.conv1.norm.", "bn1.").replace("stem.", "")
    stage, block, part, norm, rest = _BLOCK.fullmatch(name).groups()
    if part == "shortcut":
        part = "downsample.1" if norm else "downsample.0"
    elif norm:
        part = part.replace("conv", "bn")
    return f"layer{int(stage) - 1}.{block}.{part}.{rest}"


def as_detrex(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINO as detrex stores it."""
    theirs = {_detrex_name(name): x for name, x in weights.items()}
    aliases = {
        f"transformer.decoder.{name}": x
        for name, x in theirs.items()
        if name.startswith(("class_embed.", "bbox_embed."))
    }
    return theirs | aliases


def as_mmdet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINO as mmdetection 2 stores it."""
    return _with_counts({_mmdet_name(name, generation=2): x for name, x in weights.items()})


def as_mmdet3(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINO as mmdetection 3 stores it."""
    return _with_counts({_mmdet_name(name, generation=3): x for name, x in weights.items()})


def as_authors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A DINO of 80 classes as its authors store it: with 91 of them, all heads but one alike."""
    num_maps = len({m[2] for name in weights if (m := _NECK.match(name)) and not m[1]})
    num_layers = max(int(m[1]) for name in weights if (m := _HEAD.match(name)))
    theirs: dict[str, Tensor] = {}
    for name, x in weights.items():
        theirs[_authors_name(name, num_maps, num_layers)] = _numbered(name, x)
    for name in [name for name in theirs if name.startswith(("class_embed.", "bbox_embed."))]:
        theirs[f"transformer.decoder.{name}"] = theirs[name]
    return theirs


WRITERS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "authors": as_authors,
    "detrex": as_detrex,
    "mmdet": as_mmdet,
    "mmdet3": as_mmdet3,
}


def _numbered(name: str, x: Tensor) -> Tensor:
    rows = 92 if name.startswith("denoising.") else 91
    if "class_embed" not in name and rows == 91:
        return x
    numbered = torch.full((rows, *x.shape[1:]), 77.0)
    numbered[CATEGORY_IDS] = x
    return numbered


def _with_counts(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Norms of mmdetection are trainable ones with their statistics frozen."""
    counts = {
        name.replace("running_mean", "num_batches_tracked"): torch.zeros((), dtype=torch.int64)
        for name in theirs
        if name.endswith("running_mean")
    }
    return theirs | counts


def _listed(part: str, name: str, rest: str) -> str:
    """Parts of a layer as lists, for detrex and mmdetection 2."""
    is_decoder = part == "decoder"
    norms = ["self_attn_norm", "cross_attn_norm", "ffn_norm"]
    if not is_decoder:
        norms.remove("cross_attn_norm")
    if name in norms:
        return f"norms.{norms.index(name)}.{rest}"
    if name == "ffn":
        return f"ffns.0.{rest.replace('layers.0.', 'layers.0.0.')}"
    if name == "cross_attn":
        return f"attentions.1.{rest}"
    return f"attentions.0.attn.{rest}" if is_decoder else f"attentions.0.{rest}"


def _detrex_name(name: str) -> str:
    if match := _NECK.fullmatch(name):
        return f"neck.{match[1] or ''}convs.{match[2]}.{match[3]}.{match[4]}"
    if match := _LAYER.fullmatch(name):
        return f"transformer.{match[1]}.layers.{match[2]}.{_listed(match[1], match[3], match[4])}"
    if match := _HEAD.fullmatch(name):
        return f"{match[2]}_embed.{match[1]}.{match[3]}"
    return (
        name.replace("query_selection.query_embed", "tgt_embed")
        .replace("query_selection.", "")
        .replace("denoising.", "")
        .replace("backbone.bottom_up.", "backbone.")
    )


def _mmdet_name(name: str, generation: int) -> str:
    if name.startswith("backbone.bottom_up."):
        return f"backbone.{as_torchvision(name.removeprefix('backbone.bottom_up.'))}"
    if match := _NECK.fullmatch(name):
        part = "gn" if match[3] == "norm" else "conv"
        return f"neck.{match[1] or ''}convs.{match[2]}.{part}.{match[4]}"
    if match := _HEAD.fullmatch(name):
        if match[2] == "class":
            return f"bbox_head.cls_branches.{match[1]}.{match[3]}"
        layer, rest = match[3].removeprefix("layers.").split(".")
        return f"bbox_head.reg_branches.{match[1]}.{2 * int(layer)}.{rest}"
    return _second_generation(name) if generation == 2 else _third_generation(name)


def _second_generation(name: str) -> str:
    if match := _LAYER.fullmatch(name):
        part = _listed(match[1], match[3], match[4])
        return f"bbox_head.transformer.{match[1]}.layers.{match[2]}.{part}"
    if name.startswith("denoising."):
        return "bbox_head.label_embedding.weight"
    name = name.replace("ref_point_head.layers.1", "ref_point_head.2")
    name = name.replace("ref_point_head.layers.0", "ref_point_head.0")
    return f"bbox_head.{name.replace('query_selection.', '')}"


def _third_generation(name: str) -> str:
    if match := _LAYER.fullmatch(name):
        part = _listed(match[1], match[3], match[4])
        for before, after in (
            ("attentions.0.", "self_attn."),
            ("attentions.1.", "cross_attn."),
            ("ffns.0.", "ffn."),
        ):
            part = part.replace(before, after)
        return f"{match[1]}.layers.{match[2]}.{part}"
    for before, after in (
        ("transformer.query_selection.query_embed", "query_embedding"),
        ("transformer.query_selection.enc_output_norm", "memory_trans_norm"),
        ("transformer.query_selection.enc_output", "memory_trans_fc"),
        ("transformer.level_embeds", "level_embed"),
        ("transformer.decoder.", "decoder."),
        ("denoising.label_enc", "dn_query_generator.label_embedding"),
    ):
        if name.startswith(before):
            return name.replace(before, after)
    raise AssertionError(name)


def _authors_name(name: str, num_maps: int, num_layers: int) -> str:
    if name.startswith("backbone.bottom_up."):
        return f"backbone.0.body.{as_torchvision(name.removeprefix('backbone.bottom_up.'))}"
    if match := _NECK.fullmatch(name):
        level = int(match[2]) + (num_maps if match[1] else 0)
        return f"input_proj.{level}.{0 if match[3] == 'conv' else 1}.{match[4]}"
    if match := _HEAD.fullmatch(name):
        if int(match[1]) == num_layers:
            return f"transformer.enc_out_{match[2]}_embed.{match[3]}"
        return f"{match[2]}_embed.{match[1]}.{match[3]}"
    if match := _LAYER.fullmatch(name):
        return f"transformer.{match[1]}.layers.{match[2]}.{_numbered_part(*match.group(1, 3, 4))}"
    return (
        name.replace("query_selection.query_embed", "tgt_embed")
        .replace("query_selection.", "")
        .replace("denoising.", "")
        .replace("level_embeds", "level_embed")
    )


def _numbered_part(part: str, name: str, rest: str) -> str:
    if name == "ffn":
        return rest.replace("layers.0", "linear1").replace("layers.1", "linear2")
    numbers = {"self_attn_norm": 1, "ffn_norm": 2}
    if part == "decoder":
        numbers = {"cross_attn_norm": 1, "self_attn_norm": 2, "ffn_norm": 3}
    return f"norm{numbers[name]}.{rest}" if name in numbers else f"{name}.{rest}"
