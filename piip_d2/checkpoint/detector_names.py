"""Names of mmdetection 2's detectors, and Detectron2's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from piip_d2.checkpoint.backbone_names import BACKBONE_RULES
from piip_d2.checkpoint.renaming import Rule, rename_keys


def _shifted(template: str, by: int) -> Callable[[re.Match[str]], str]:
    """A replacement that puts the number found, raised by ``by``, into a template."""
    return lambda match: template.format(int(match[1]) + by)


# Detectron2 numbers its pyramid levels from 2 (stride 4), its layers from 1.
_FPN_RULES: tuple[Rule, ...] = (
    (r"neck\.lateral_convs\.(\d+)\.conv\.", _shifted("backbone.fpn_lateral{}.", 2)),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", _shifted("backbone.fpn_output{}.", 2)),
    (r"neck\.lateral_convs\.(\d+)\.(?:bn|gn)\.", _shifted("backbone.fpn_lateral{}.norm.", 2)),
    (r"neck\.fpn_convs\.(\d+)\.(?:bn|gn)\.", _shifted("backbone.fpn_output{}.norm.", 2)),
)
_RPN_RULES: tuple[Rule, ...] = (
    (r"rpn_head\.rpn_conv\.(\d+)\.conv\.", r"proposal_generator.rpn_head.conv.conv\1."),
    (r"rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
    (r"rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
)
_BOX_RULES: tuple[Rule, ...] = (
    (
        r"roi_head\.bbox_head\.shared_convs\.(\d+)\.conv\.",
        _shifted("roi_heads.box_head.conv{}.", 1),
    ),
    (
        r"roi_head\.bbox_head\.shared_convs\.(\d+)\.(?:bn|gn)\.",
        _shifted("roi_heads.box_head.conv{}.norm.", 1),
    ),
    (r"roi_head\.bbox_head\.shared_fcs\.(\d+)\.", _shifted("roi_heads.box_head.fc{}.", 1)),
    (r"roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
)
_MASK_RULES: tuple[Rule, ...] = (
    (r"roi_head\.mask_head\.convs\.(\d+)\.conv\.", _shifted("roi_heads.mask_head.mask_fcn{}.", 1)),
    (
        r"roi_head\.mask_head\.convs\.(\d+)\.(?:bn|gn)\.",
        _shifted("roi_heads.mask_head.mask_fcn{}.norm.", 1),
    ),
    (r"roi_head\.mask_head\.upsample\.", "roi_heads.mask_head.deconv."),
    (r"roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_head.predictor."),
)
_DETECTOR_RULES: dict[str, tuple[Rule, ...]] = {
    "faster_rcnn": (*_FPN_RULES, *_RPN_RULES, *_BOX_RULES),
    "mask_rcnn": (*_FPN_RULES, *_RPN_RULES, *_BOX_RULES, *_MASK_RULES),
}


def convert_detector_state_dict(state_dict: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Renames a detector of mmdetection 2 with a PIIP backbone, or with its heads alone.

    No tensor is changed: class order, box deltas and the flattening of the first fully connected
    layer are the same in both frameworks.

    Args:
        state_dict: Tensors under mmdetection's names.
        kind: ``"faster_rcnn"`` or ``"mask_rcnn"``.

    Returns:
        The tensors under the names of Detectron2's ``GeneralizedRCNN`` with a
        :class:`piip_d2.modeling.PIIPFPN`.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``kind`` is unknown.
    """
    if kind not in _DETECTOR_RULES:
        raise ValueError(f"kind must be one of {sorted(_DETECTOR_RULES)}, got {kind!r}")
    prefix = "backbone."
    backbone = {
        key.removeprefix(prefix): tensor
        for key, tensor in state_dict.items()
        if key.startswith(prefix)
    }
    heads = {key: tensor for key, tensor in state_dict.items() if not key.startswith(prefix)}
    renamed = {
        f"backbone.bottom_up.{key}": tensor
        for key, tensor in rename_keys(backbone, BACKBONE_RULES).items()
    }
    return {**renamed, **rename_keys(heads, _DETECTOR_RULES[kind])}
