"""Names of mmdetection 2's detectors, and Detectron2's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from piip_d2.checkpoint.backbone_names import is_never_used, rules_to_ours
from piip_d2.checkpoint.backbone_weights import (
    PREFIX,
    ReferenceLayout,
    adapt_tensors,
    export_names,
    read_layout,
)
from piip_d2.checkpoint.dino_names import DINO_HEADS
from piip_d2.checkpoint.renaming import (
    Pair,
    Rule,
    Value,
    check_known,
    rename_keys,
    rename_known,
    rules_of,
    turned,
)

OUR_PREFIX = "backbone.bottom_up."

# How many levels of a pyramid, or layers of a head, are looked for.
_MAX_LAYERS = 8
# mmdetection names a norm by its kind, Detectron2 does not.
_NORM_KINDS = ("bn", "gn")


def convert_detector_state_dict(state_dict: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Renames a detector of mmdetection 2 with a PIIP backbone, or with its heads alone.

    No tensor of the heads is changed: class order, box deltas and the flattening of the first
    fully connected layer are the same in both frameworks.

    Args:
        state_dict: Tensors under mmdetection's names.
        kind: ``"faster_rcnn"``, ``"mask_rcnn"`` or ``"dino"``.

    Returns:
        The tensors under the names of Detectron2's ``GeneralizedRCNN`` with a
        :class:`piip_d2.modeling.PIIPFPN`, or of :class:`piip_d2.modeling.DINO`. What the backbone
        stores without using it is left out.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``kind`` is unknown.
    """
    renamed, unknown = rename_detector(state_dict, kind)
    check_known(unknown)
    return adapt_tensors(renamed)


def rename_detector(
    state_dict: Mapping[str, Value], kind: str
) -> tuple[dict[str, Value], list[str]]:
    """Renames what is known of a detector, and changes nothing else.

    Args:
        state_dict: Anything by mmdetection's names.
        kind: ``"faster_rcnn"``, ``"mask_rcnn"`` or ``"dino"``.

    Returns:
        What is known, without what the backbone never uses, under our names; and the names that
        are not known.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    inside, outside = _split(state_dict, PREFIX)
    used = {name: value for name, value in inside.items() if not is_never_used(name)}
    backbone, unknown = rename_known(used, rules_to_ours())
    heads, unknown_heads = rename_known(outside, _rules_to_ours(kind))
    renamed = {**{OUR_PREFIX + name: value for name, value in backbone.items()}, **heads}
    return renamed, [*(PREFIX + name for name in unknown), *unknown_heads]


def export_detector_state_dict(
    state_dict: Mapping[str, Tensor], kind: str, backbone: Mapping[str, Any] | ReferenceLayout
) -> dict[str, Tensor]:
    """Brings the weights of a detector under mmdetection 2's names.

    Args:
        state_dict: Tensors under the names of a ``GeneralizedRCNN`` or a ``DINO`` with a PIIP
            backbone.
        kind: ``"faster_rcnn"``, ``"mask_rcnn"`` or ``"dino"``.
        backbone: The reference's configuration of the backbone, or how it names its weights.

    Returns:
        The tensors under mmdetection's names, the backbone's as
        :func:`export_backbone_state_dict` completes them.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``kind`` or the configuration is unknown.
    """
    layout = backbone if isinstance(backbone, ReferenceLayout) else read_layout(backbone)
    weights, heads = _split(state_dict, OUR_PREFIX)
    has_statistics = any(name.endswith(".norm.running_mean") for name in heads)
    rules = rules_of(turned(_pairs(kind, _NORM_KINDS[0 if has_statistics else 1])))
    return {
        **{PREFIX + name: tensor for name, tensor in export_names(weights, layout).items()},
        **rename_keys(heads, rules),
    }


def _split(
    state_dict: Mapping[str, Value], prefix: str
) -> tuple[dict[str, Value], dict[str, Value]]:
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    outside = {name: x for name, x in state_dict.items() if not name.startswith(prefix)}
    return inside, outside


def _rules_to_ours(kind: str) -> list[Rule]:
    return [rule for norm in _NORM_KINDS for rule in rules_of(_pairs(kind, norm))]


def _pairs(kind: str, norm: str) -> list[Pair]:
    if kind not in _HEADS:
        raise ValueError(f"kind must be one of {sorted(_HEADS)}, got {kind!r}")
    if kind == "dino":
        return list(DINO_HEADS)
    # Detectron2 numbers its pyramid levels from 2 (stride 4), its layers from 1.
    pairs = [
        *_layers("neck.lateral_convs", "backbone.fpn_lateral", 2, norm),
        *_layers("neck.fpn_convs", "backbone.fpn_output", 2, norm),
        *_layers("roi_head.bbox_head.shared_convs", "roi_heads.box_head.conv", 1, norm),
    ]
    if kind == "mask_rcnn":
        pairs += _layers("roi_head.mask_head.convs", "roi_heads.mask_head.mask_fcn", 1, norm)
    return [*pairs, *_HEADS[kind]]


def _layers(theirs: str, ours: str, first: int, norm: str) -> list[Pair]:
    """Rows of convolutions with or without a norm."""
    pairs = []
    for number in range(_MAX_LAYERS):
        pairs.append((f"{theirs}.{number}.{norm}", f"{ours}{number + first}.norm"))
        pairs.append((f"{theirs}.{number}.conv", f"{ours}{number + first}"))
    return pairs


_BOX_HEADS: tuple[Pair, ...] = (
    ("rpn_head.rpn_conv.*.conv", "proposal_generator.rpn_head.conv.conv*"),
    ("rpn_head.rpn_conv", "proposal_generator.rpn_head.conv"),
    ("rpn_head.rpn_cls", "proposal_generator.rpn_head.objectness_logits"),
    ("rpn_head.rpn_reg", "proposal_generator.rpn_head.anchor_deltas"),
    *(
        (f"roi_head.bbox_head.shared_fcs.{number}", f"roi_heads.box_head.fc{number + 1}")
        for number in range(_MAX_LAYERS)
    ),
    ("roi_head.bbox_head.fc_cls", "roi_heads.box_predictor.cls_score"),
    ("roi_head.bbox_head.fc_reg", "roi_heads.box_predictor.bbox_pred"),
)
_MASK_HEADS: tuple[Pair, ...] = (
    ("roi_head.mask_head.upsample", "roi_heads.mask_head.deconv"),
    ("roi_head.mask_head.conv_logits", "roi_heads.mask_head.predictor"),
)
_HEADS: dict[str, tuple[Pair, ...]] = {
    "faster_rcnn": _BOX_HEADS,
    "mask_rcnn": (*_BOX_HEADS, *_MASK_HEADS),
    "dino": DINO_HEADS,
}
