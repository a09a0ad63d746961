"""Names and shapes of neck and head in the released DINO checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH, HIDDEN, CLASSES, QUERIES, LEVELS, LAYERS = 256, 2048, 80, 900, 4, 6
_SAMPLES = 8 * LEVELS * 4
_DEFORMABLE = {
    "sampling_offsets": (2 * _SAMPLES, WIDTH),
    "attention_weights": (_SAMPLES, WIDTH),
    "value_proj": (WIDTH, WIDTH),
    "output_proj": (WIDTH, WIDTH),
}


def dino_head_keys(channels: int) -> dict[str, Tensor]:
    """Tensors without content by their official names, for a backbone of so many channels."""
    shapes = _neck(channels)
    for layer in range(LAYERS):
        shapes |= _encoder_layer(f"bbox_head.transformer.encoder.layers.{layer}")
        shapes |= _decoder_layer(f"bbox_head.transformer.decoder.layers.{layer}")
    for head in range(LAYERS + 1):
        shapes |= _linear(f"bbox_head.cls_branches.{head}", (CLASSES, WIDTH))
        for layer, width in ((0, WIDTH), (2, WIDTH), (4, 4)):
            shapes |= _linear(f"bbox_head.reg_branches.{head}.{layer}", (width, WIDTH))
    transformer = "bbox_head.transformer"
    shapes |= _linear(f"{transformer}.decoder.ref_point_head.0", (WIDTH, 2 * WIDTH))
    shapes |= _linear(f"{transformer}.decoder.ref_point_head.2", (WIDTH, WIDTH))
    shapes |= _norm(f"{transformer}.decoder.norm")
    shapes |= _linear(f"{transformer}.enc_output", (WIDTH, WIDTH))
    shapes |= _norm(f"{transformer}.enc_output_norm")
    shapes |= {
        f"{transformer}.level_embeds": (LEVELS, WIDTH),
        f"{transformer}.query_embed.weight": (QUERIES, WIDTH),
        "bbox_head.label_embedding.weight": (CLASSES, WIDTH),
    }
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _neck(channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, side in (*((f"convs.{level}", 1) for level in range(3)), ("extra_convs.0", 3)):
        shapes[f"neck.{name}.conv.weight"] = (WIDTH, channels, side, side)
        shapes |= _norm(f"neck.{name}.gn")
    return shapes


def _encoder_layer(layer: str) -> dict[str, tuple[int, ...]]:
    return _deformable(f"{layer}.attentions.0") | _ffn(layer) | _norms(layer, 2)


def _decoder_layer(layer: str) -> dict[str, tuple[int, ...]]:
    attention = f"{layer}.attentions.0.attn"
    return {
        f"{attention}.in_proj_weight": (3 * WIDTH, WIDTH),
        f"{attention}.in_proj_bias": (3 * WIDTH,),
        **_linear(f"{attention}.out_proj", (WIDTH, WIDTH)),
        **_deformable(f"{layer}.attentions.1"),
        **_ffn(layer),
        **_norms(layer, 3),
    }


def _deformable(attention: str) -> dict[str, tuple[int, ...]]:
    parts = [_linear(f"{attention}.{name}", shape) for name, shape in _DEFORMABLE.items()]
    return {name: shape for part in parts for name, shape in part.items()}


def _ffn(layer: str) -> dict[str, tuple[int, ...]]:
    return {
        **_linear(f"{layer}.ffns.0.layers.0.0", (HIDDEN, WIDTH)),
        **_linear(f"{layer}.ffns.0.layers.1", (WIDTH, HIDDEN)),
    }


def _norms(layer: str, count: int) -> dict[str, tuple[int, ...]]:
    parts = [_norm(f"{layer}.norms.{number}") for number in range(count)]
    return {name: shape for part in parts for name, shape in part.items()}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _linear(name: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
