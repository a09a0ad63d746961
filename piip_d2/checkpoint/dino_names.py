"""Names of the neck and the transformer of mmdetection 2's DINO, as PIIP changed it, and ours."""

from __future__ import annotations

from piip_d2.checkpoint.renaming import Pair

_ATTENTIONS = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")

# mmdetection's lists of parts of a layer: attentions, norms and feed-forward networks in the
# order in which a layer uses them.
_ENCODER_LAYER: tuple[Pair, ...] = (
    *((f"attentions.0.{name}", f"self_attn.{name}") for name in _ATTENTIONS),
    ("norms.0", "self_attn_norm"),
    ("norms.1", "ffn_norm"),
)
_DECODER_LAYER: tuple[Pair, ...] = (
    ("attentions.0.attn", "self_attn"),
    *((f"attentions.1.{name}", f"cross_attn.{name}") for name in _ATTENTIONS),
    ("norms.0", "self_attn_norm"),
    ("norms.1", "cross_attn_norm"),
    ("norms.2", "ffn_norm"),
)
_FFN: tuple[Pair, ...] = (
    ("ffns.0.layers.0.0", "ffn.layers.0"),
    ("ffns.0.layers.1", "ffn.layers.1"),
)

DINO_HEADS: tuple[Pair, ...] = (
    ("neck.convs.*.conv", "backbone.convs.*.conv"),
    ("neck.convs.*.gn", "backbone.convs.*.norm"),
    ("neck.extra_convs.*.conv", "backbone.extra_convs.*.conv"),
    ("neck.extra_convs.*.gn", "backbone.extra_convs.*.norm"),
    *(
        (f"bbox_head.transformer.{part}.layers.*.{theirs}", f"transformer.{part}.layers.*.{ours}")
        for part, layer in (("encoder", _ENCODER_LAYER), ("decoder", _DECODER_LAYER))
        for theirs, ours in (*layer, *_FFN)
    ),
    # Activations count as layers of a sequence.
    (
        "bbox_head.transformer.decoder.ref_point_head.0",
        "transformer.decoder.ref_point_head.layers.0",
    ),
    (
        "bbox_head.transformer.decoder.ref_point_head.2",
        "transformer.decoder.ref_point_head.layers.1",
    ),
    ("bbox_head.transformer.decoder.norm", "transformer.decoder.norm"),
    ("bbox_head.transformer.level_embeds", "transformer.level_embeds"),
    *(
        (f"bbox_head.transformer.{name}", f"transformer.query_selection.{name}")
        for name in ("enc_output", "enc_output_norm", "query_embed")
    ),
    # The last of them is the encoder's, in both.
    ("bbox_head.cls_branches.*", "transformer.heads.*.class_embed"),
    *(
        (f"bbox_head.reg_branches.*.{2 * layer}", f"transformer.heads.*.bbox_embed.layers.{layer}")
        for layer in range(3)
    ),
    ("bbox_head.label_embedding", "denoising.label_enc"),
)
"""Everything but the backbone."""
