"""What tells the heads of foreign weights from those of one of our detectors, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from piip_d2.checkpoint.detectors.form import DetectorForm, rcnn_kind

_KINDS = {
    "faster_rcnn": "a Faster R-CNN",
    "mask_rcnn": "a Mask R-CNN",
    "cascade_rcnn": "a Cascade R-CNN without masks",
    "cascade_mask_rcnn": "a Cascade R-CNN with masks",
    "dino": "a DINO",
}


class _Trait(NamedTuple):
    """Something that is counted or there in our names, its words and the way out."""

    pattern: str
    words: str
    way_out: str


# The numbers that a pattern catches are counted; no number is the one of the only part.
_COUNTED = (
    _Trait(
        r"transformer\.encoder\.layers\.(\d+)\.",
        "layers in the encoder",
        "give model.transformer.num_encoder_layers={}",
    ),
    _Trait(
        r"transformer\.decoder\.layers\.(\d+)\.",
        "layers in the decoder",
        "give model.transformer.num_decoder_layers={}",
    ),
    _Trait(
        r"proposal_generator\.rpn_head\.conv\.(?:conv(\d+)\.)?weight",
        "convolutions in the RPN",
        "give model.proposal_generator.head.conv_dims {} entries of -1",
    ),
    _Trait(
        r"roi_heads\.box_predictor\.(\d+)\.",
        "stages",
        "take a config with {} box heads",
    ),
    _Trait(
        r"roi_heads\.box_head\.(?:\d+\.)?conv(\d+)\.weight",
        "convolutions in a box head",
        "take a config whose box heads have {} entries in conv_dims",
    ),
    _Trait(
        r"roi_heads\.box_head\.(?:\d+\.)?fc(\d+)\.weight",
        "fully connected layers in a box head",
        "take a config whose box heads have {} entries in fc_dims",
    ),
    _Trait(
        r"roi_heads\.mask_head\.(?:\d+\.)?mask_fcn(\d+)\.weight",
        "convolutions in a mask head",
        "take a config whose mask heads have as many entries in conv_dims, and one more",
    ),
    _Trait(
        r"roi_heads\.mask_head\.(\d+)\.",
        "numbered mask heads",
        "a cascade has one for every stage in mmdetection, so look for a file that has them all",
    ),
)
# Rows of a weight are counted.
_ROWS = (
    _Trait(
        r"transformer\.level_embeds",
        "feature maps",
        "give model.backbone.num_levels={}, and one map of the backbone fewer",
    ),
    _Trait(
        r"transformer\.query_selection\.query_embed\.weight",
        "queries",
        "give model.transformer.num_queries={}",
    ),
    _Trait(
        r"transformer\.encoder\.layers\.0\.ffn\.layers\.0\.bias",
        "channels inside the MLPs of the layers",
        "give model.transformer.feedforward_dim={}",
    ),
    _Trait(r"transformer\.heads\.0\.class_embed\.bias", "classes", "give model.num_classes={}"),
)
# These are there or not.
_PARTS = (
    _Trait(
        r"backbone\.(extra_)?convs\.\d+\.conv\.bias",
        "biases in the convolutions of the neck",
        "give model.backbone.bias={}",
    ),
    _Trait(r"backbone\.fpn_\w+\d+\.norm\.", "norms in the pyramid", "see model.backbone.norm"),
    _Trait(
        r"roi_heads\.box_head\..*conv\d+\.norm\.",
        "norms in the convolutions of the box heads",
        "see conv_norm of the config's box heads",
    ),
    _Trait(
        r"roi_heads\.mask_head\..*mask_fcn\d+\.norm\.",
        "norms in the convolutions of the mask heads",
        "see conv_norm of the config's mask heads",
    ),
)
_MASK_HEAD = r"roi_heads\.mask_head\."
_SCORES = re.compile(r"roi_heads\.box_predictor\.(0\.)?cls_score\.bias")
_DELTAS = re.compile(r"roi_heads\.box_predictor\.(0\.)?bbox_pred\.bias")


def kind_difference(names: Iterable[str], form: DetectorForm) -> str | None:
    """Tells weights of another kind of detector.

    Args:
        names: Names of the weights in the source's form.
        form: What they are wanted for.

    Returns:
        A sentence with the way out, or None if the kind is the wanted one or cannot be told.
    """
    names = list(names)
    if any(name.startswith("roi_head.") for name in names):
        is_cascade = any(name.startswith("roi_head.bbox_head.0.") for name in names)
        has_masks = any(name.startswith("roi_head.mask_head.") for name in names)
        kind = rcnn_kind(is_cascade=is_cascade, has_masks=has_masks)
    elif any(re.match(r"(bbox_head\.)?(transformer|encoder|decoder)\.", name) for name in names):
        kind = "dino"
    else:
        return None
    if kind == form.kind:
        return None
    return (
        f"these weights are of {_KINDS[kind]}, but the config's model is {_KINDS[form.kind]}: "
        "take the config that they were trained with"
    )


def head_difference(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Finds the first thing by which the heads of foreign weights are others than ours.

    Args:
        weights: What was brought under our names.
        wanted: All weights of our detector.

    Returns:
        A sentence with the way out, or None if no such thing is known.
    """
    if _count(_MASK_HEAD, wanted) and not _count(_MASK_HEAD, weights):
        return (
            "these weights have no mask head for the last stage, which is the config's only one: "
            "look for a file that has them all"
        )
    for trait in _COUNTED:
        given, own = (_count(trait.pattern, names) for names in (weights, wanted))
        if given != own:
            return _sentence(trait, given, own)
    for trait in _ROWS:
        given, own = (_rows(trait.pattern, tensors) for tensors in (weights, wanted))
        if given and own and given != own:
            return _sentence(trait, given, own)
    for trait in _PARTS:
        has, has_own = (bool(_count(trait.pattern, names)) for names in (weights, wanted))
        if has != has_own:
            verb, own_verb = ("have", "has none") if has else ("have no", "has them")
            return (
                f"these weights {verb} {trait.words}, but the config {own_verb}: "
                f"{trait.way_out.format(has)}"
            )
    return _predictor_difference(weights, wanted)


def _predictor_difference(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str | None:
    # The last row is that of the background.
    given, own = (_rows(_SCORES.pattern, tensors) - 1 for tensors in (weights, wanted))
    if given > 0 and own > 0 and given != own:
        trait = _Trait("", "classes", "give model.roi_heads.num_classes={}")
        return _sentence(trait, given, own)
    given, own = (_rows(_DELTAS.pattern, tensors) // 4 for tensors in (weights, wanted))
    if given and own and given != own:
        words = {True: "for all classes alike", False: "for every class"}
        return (
            f"these weights move boxes {words[given == 1]}, but the config {words[own == 1]}: "
            f"take a config whose box predictors have cls_agnostic_bbox_reg={given == 1}"
        )
    return None


def _sentence(trait: _Trait, given: int, own: int) -> str:
    return (
        f"these weights have {given} {trait.words}, but the config has {own}: "
        f"{trait.way_out.format(given)}"
    )


def _count(pattern: str, names: Iterable[str]) -> int:
    matches = (re.match(pattern, name) for name in names)
    return len({match.groups() for match in matches if match})


def _rows(pattern: str, tensors: Mapping[str, Tensor]) -> int:
    return next((len(x) for name, x in tensors.items() if re.fullmatch(pattern, name)), 0)
