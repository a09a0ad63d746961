"""Names of the neck and the transformer of DINO in other programs, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from piip_d2.checkpoint.renaming import Pair

OUR_LABELS = "denoising.label_enc"
"""Our name of the vectors that stand for the classes of noisy queries."""

_Layers = dict[str, tuple[Pair, ...]]

# mmdetection 2 has lists of parts of a layer: attentions, norms and feed-forward networks in the
# order in which a layer uses them. Its modules were the model for those of detrex.
_LISTED_LAYERS: _Layers = {
    "encoder": (
        ("attentions.0", "self_attn"),
        ("norms.0", "self_attn_norm"),
        ("norms.1", "ffn_norm"),
        ("ffns.0.layers.0.0", "ffn.layers.0"),
        ("ffns.0.layers.1", "ffn.layers.1"),
    ),
    "decoder": (
        ("attentions.0.attn", "self_attn"),
        ("attentions.1", "cross_attn"),
        ("norms.0", "self_attn_norm"),
        ("norms.1", "cross_attn_norm"),
        ("norms.2", "ffn_norm"),
        ("ffns.0.layers.0.0", "ffn.layers.0"),
        ("ffns.0.layers.1", "ffn.layers.1"),
    ),
}
_MMDET3_LAYERS: _Layers = {
    "encoder": (
        ("self_attn", "self_attn"),
        ("norms.0", "self_attn_norm"),
        ("norms.1", "ffn_norm"),
        ("ffn.layers.0.0", "ffn.layers.0"),
        ("ffn.layers.1", "ffn.layers.1"),
    ),
    "decoder": (
        ("self_attn.attn", "self_attn"),
        ("cross_attn", "cross_attn"),
        ("norms.0", "self_attn_norm"),
        ("norms.1", "cross_attn_norm"),
        ("norms.2", "ffn_norm"),
        ("ffn.layers.0.0", "ffn.layers.0"),
        ("ffn.layers.1", "ffn.layers.1"),
    ),
}
# The decoder's norms are numbered by age: the one of the cross-attention was there first.
_AUTHORS_LAYERS: _Layers = {
    "encoder": (
        ("self_attn", "self_attn"),
        ("norm1", "self_attn_norm"),
        ("norm2", "ffn_norm"),
        ("linear1", "ffn.layers.0"),
        ("linear2", "ffn.layers.1"),
    ),
    "decoder": (
        ("self_attn", "self_attn"),
        ("cross_attn", "cross_attn"),
        ("norm2", "self_attn_norm"),
        ("norm1", "cross_attn_norm"),
        ("norm3", "ffn_norm"),
        ("linear1", "ffn.layers.0"),
        ("linear2", "ffn.layers.1"),
    ),
}


def dino_pairs(source: str, weights: Mapping[str, Tensor] | None = None) -> list[Pair]:
    """Names of all of a DINO but its backbone.

    Args:
        source: A key of :data:`piip_d2.checkpoint.detectors.sources.SOURCES`.
        weights: The weights; needed for those of DINO's authors, which count neck and heads in
            another way.

    Returns:
        Pairs of the source's names and ours.
    """
    if source != "authors":
        return list(_TABLES[source])
    return [*_authors_neck(weights or {}), *_authors_heads(weights or {}), *_TABLES[source]]


def num_decoder_layers(weights: Mapping[str, Tensor]) -> int:
    """Counts the layers of the decoder in weights of detrex or of DINO's authors."""
    return len({m[1] for name in weights if (m := _DECODER_LAYER.match(name))})


_DECODER_LAYER = re.compile(r"transformer\.decoder\.layers\.(\d+)\.")
_PROJECTION = re.compile(r"input_proj\.\d+\.0\.weight$")


def _authors_neck(weights: Mapping[str, Tensor]) -> list[Pair]:
    # The 3x3 convolutions stand behind as many 1x1 ones as there are maps of the backbone.
    sides = [x.shape[-1] for name, x in weights.items() if _PROJECTION.match(name)]
    num_maps = sides.count(1)
    places = [
        f"convs.{level}" if level < num_maps else f"extra_convs.{level - num_maps}"
        for level in range(len(sides))
    ]
    return [
        (f"input_proj.{level}.{number}", f"backbone.{place}.{part}")
        for level, place in enumerate(places)
        for number, part in enumerate(("conv", "norm"))
    ]


def _authors_heads(weights: Mapping[str, Tensor]) -> list[Pair]:
    encoder = f"transformer.heads.{num_decoder_layers(weights)}"
    return [
        (f"transformer.enc_out_{head}", f"{encoder}.{head}")
        for head in ("class_embed", "bbox_embed")
    ]


def _transformer(theirs: str, layers: _Layers) -> list[Pair]:
    """Names of the layers, whose prefix is the same in encoder and decoder."""
    return [
        (f"{theirs}{part}.layers.*.{before}", f"transformer.{part}.layers.*.{after}")
        for part, pairs in layers.items()
        for before, after in pairs
    ] + [(f"{theirs}decoder.norm", "transformer.decoder.norm")]


def _neck(norm: str) -> list[Pair]:
    return [
        (f"neck.{convs}.*.{theirs}", f"backbone.{convs}.*.{ours}")
        for convs in ("convs", "extra_convs")
        for theirs, ours in (("conv", "conv"), (norm, "norm"))
    ]


def _mmdet_heads() -> list[Pair]:
    """Heads of both generations of mmdetection, which count activations as layers."""
    return [
        # The last of them is the encoder's, in both.
        ("bbox_head.cls_branches.*", "transformer.heads.*.class_embed"),
        *(
            (f"bbox_head.reg_branches.*.{2 * n}", f"transformer.heads.*.bbox_embed.layers.{n}")
            for n in range(3)
        ),
    ]


_REF_POINT_HEAD = "transformer.decoder.ref_point_head.layers"
_SELECTION = "transformer.query_selection"

# Authors and detrex.
_PLAIN_NAMES: tuple[Pair, ...] = (
    (_REF_POINT_HEAD, _REF_POINT_HEAD),
    ("transformer.tgt_embed", f"{_SELECTION}.query_embed"),
    ("transformer.enc_output", f"{_SELECTION}.enc_output"),
    ("transformer.enc_output_norm", f"{_SELECTION}.enc_output_norm"),
    ("class_embed.*", "transformer.heads.*.class_embed"),
    ("bbox_embed.*", "transformer.heads.*.bbox_embed"),
    ("label_enc", OUR_LABELS),
)
_MMDET = "bbox_head.transformer."
_TABLES: dict[str, tuple[Pair, ...]] = {
    "mmdet": (
        *_neck("gn"),
        *_transformer(_MMDET, _LISTED_LAYERS),
        (f"{_MMDET}decoder.ref_point_head.0", f"{_REF_POINT_HEAD}.0"),
        (f"{_MMDET}decoder.ref_point_head.2", f"{_REF_POINT_HEAD}.1"),
        (f"{_MMDET}level_embeds", "transformer.level_embeds"),
        *(
            (f"{_MMDET}{name}", f"{_SELECTION}.{name}")
            for name in ("enc_output", "enc_output_norm", "query_embed")
        ),
        *_mmdet_heads(),
        ("bbox_head.label_embedding", OUR_LABELS),
    ),
    "mmdet3": (
        *_neck("gn"),
        *_transformer("", _MMDET3_LAYERS),
        ("decoder.ref_point_head.layers", _REF_POINT_HEAD),
        ("level_embed", "transformer.level_embeds"),
        ("memory_trans_fc", f"{_SELECTION}.enc_output"),
        ("memory_trans_norm", f"{_SELECTION}.enc_output_norm"),
        ("query_embedding", f"{_SELECTION}.query_embed"),
        *_mmdet_heads(),
        ("dn_query_generator.label_embedding", OUR_LABELS),
    ),
    "detrex": (
        *_neck("norm"),
        *_transformer("transformer.", _LISTED_LAYERS),
        ("transformer.level_embeds", "transformer.level_embeds"),
        *_PLAIN_NAMES,
    ),
    "authors": (
        *_transformer("transformer.", _AUTHORS_LAYERS),
        ("transformer.level_embed", "transformer.level_embeds"),
        *_PLAIN_NAMES,
    ),
}
