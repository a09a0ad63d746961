"""Weights of DINO from its authors (https://github.com/IDEA-Research/DINO) and from detrex."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from piip_d2.checkpoint.dino_names import DINO_HEADS
from piip_d2.checkpoint.renaming import Pair, rename_keys, rules_of

# Both register the heads a second time below the decoder.
_ALIASES = ("transformer.decoder.class_embed.", "transformer.decoder.bbox_embed.")
_ENCODER_HEADS = ("transformer.enc_out_class_embed", "transformer.enc_out_bbox_embed")
_ATTENTION = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
# COCO numbers its 80 categories from 1 to 90, with gaps.
_MISSING_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_COCO_IDS = [number for number in range(1, 91) if number not in _MISSING_IDS]


def convert_dino_state_dict(state_dict: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Brings the weights of another DINO under our names.

    The neck has to be built with ``bias=True``. For detrex also set ``position_temperature=10000``
    and ``position_offset=-0.5``.

    Args:
        state_dict: The tensors under their names.
        source: ``"authors"`` or ``"detrex"``. The authors' networks must be on a ResNet of
            torchvision; detrex's backbones are those of Detectron2, and keep their names.

    Returns:
        Tensors under the names of :class:`piip_d2.modeling.DINO`. Of the authors' 91 classes,
        which are numbered as in COCO's files, the 80 that exist remain.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``source`` is unknown.
    """
    if source not in _CONVERTERS:
        raise ValueError(f"source must be one of {sorted(_CONVERTERS)}, got {source!r}")
    own = {name: x for name, x in state_dict.items() if not name.startswith(_ALIASES)}
    return _CONVERTERS[source](own)


def _from_detrex(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # mmdetection's modules were the model for those of detrex.
    alike = [
        (theirs.removeprefix("bbox_head.").replace(".gn", ".norm"), ours)
        for theirs, ours in DINO_HEADS
    ]
    return rename_keys(state_dict, rules_of([*_DETREX, *alike]))


def _from_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    num_layers = sum(name.startswith("class_embed.") for name in state_dict) // 2
    encoder = f"transformer.heads.{num_layers}"
    heads = zip(_ENCODER_HEADS, (f"{encoder}.class_embed", f"{encoder}.bbox_embed"), strict=True)
    # The 3x3 convolution stands behind as many 1x1 ones as there are maps of the backbone.
    projections = [x for name, x in state_dict.items() if _is_convolution(name, x)]
    num_maps = sum(x.shape[-1] == 1 for x in projections)
    neck = [
        (
            f"input_proj.{level}.{place}",
            f"backbone.{'convs' if level < num_maps else 'extra_convs'}."
            f"{level if level < num_maps else level - num_maps}.{part}",
        )
        for level in range(len(projections))
        for place, part in enumerate(("conv", "norm"))
    ]
    renamed = rename_keys(state_dict, rules_of([*heads, *neck, *_AUTHORS]))
    return {name: _existing_classes(name, x) for name, x in renamed.items()}


def _is_convolution(name: str, x: Tensor) -> bool:
    return name.startswith("input_proj.") and x.dim() == 4


def _existing_classes(name: str, x: Tensor) -> Tensor:
    if ".class_embed." not in name and not name.startswith("denoising.label_enc."):
        return x
    return x[torch.tensor(_COCO_IDS, device=x.device)] if len(x) > len(_COCO_IDS) else x


_DETREX: tuple[Pair, ...] = (
    ("transformer.tgt_embed", "transformer.query_selection.query_embed"),
    ("transformer.decoder.ref_point_head.layers", "transformer.decoder.ref_point_head.layers"),
    ("class_embed.*", "transformer.heads.*.class_embed"),
    ("bbox_embed.*", "transformer.heads.*.bbox_embed"),
    ("label_enc", "denoising.label_enc"),
    ("backbone", "backbone.bottom_up"),
)

_RESNET: tuple[Pair, ...] = (
    ("conv1", "stem.conv1"),
    ("bn1", "stem.conv1.norm"),
    *(
        pair
        for stage in range(1, 5)
        for pair in (
            *((f"layer{stage}.*.conv{n}", f"res{stage + 1}.*.conv{n}") for n in (1, 2, 3)),
            *((f"layer{stage}.*.bn{n}", f"res{stage + 1}.*.conv{n}.norm") for n in (1, 2, 3)),
            (f"layer{stage}.*.downsample.0", f"res{stage + 1}.*.shortcut"),
            (f"layer{stage}.*.downsample.1", f"res{stage + 1}.*.shortcut.norm"),
        )
    ),
)

# The decoder's norms are numbered by age: the one of the cross-attention was there first.
_LAYERS: dict[str, tuple[Pair, ...]] = {
    "encoder": (
        *((f"self_attn.{name}", f"self_attn.{name}") for name in _ATTENTION),
        ("norm1", "self_attn_norm"),
        ("norm2", "ffn_norm"),
    ),
    "decoder": (
        ("self_attn", "self_attn"),
        *((f"cross_attn.{name}", f"cross_attn.{name}") for name in _ATTENTION),
        ("norm2", "self_attn_norm"),
        ("norm1", "cross_attn_norm"),
        ("norm3", "ffn_norm"),
    ),
}
_AUTHORS: tuple[Pair, ...] = (
    *((f"backbone.0.body.{theirs}", f"backbone.bottom_up.{ours}") for theirs, ours in _RESNET),
    *(
        (f"transformer.{part}.layers.*.{theirs}", f"transformer.{part}.layers.*.{ours}")
        for part, layer in _LAYERS.items()
        for theirs, ours in (*layer, ("linear1", "ffn.layers.0"), ("linear2", "ffn.layers.1"))
    ),
    ("transformer.decoder.ref_point_head.layers", "transformer.decoder.ref_point_head.layers"),
    ("transformer.decoder.norm", "transformer.decoder.norm"),
    ("transformer.level_embed", "transformer.level_embeds"),
    ("transformer.tgt_embed", "transformer.query_selection.query_embed"),
    ("transformer.enc_output", "transformer.query_selection.enc_output"),
    ("transformer.enc_output_norm", "transformer.query_selection.enc_output_norm"),
    ("class_embed.*", "transformer.heads.*.class_embed"),
    ("bbox_embed.*", "transformer.heads.*.bbox_embed"),
    ("label_enc", "denoising.label_enc"),
)

_CONVERTERS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "authors": _from_authors,
    "detrex": _from_detrex,
}
