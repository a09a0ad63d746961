"""Whole detectors of ours under the names of the authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from piip_d2.checkpoint.backbone_weights import PREFIX, ReferenceLayout, export_names, read_layout
from piip_d2.checkpoint.detectors.form import DetectorForm, detector_pairs, last_stage
from piip_d2.checkpoint.detectors.names import OUR_PREFIX
from piip_d2.checkpoint.detectors.rcnn_names import NORM_KINDS
from piip_d2.checkpoint.renaming import rename_keys, rules_of, turned

_OUR_MASK_STAGE = re.compile(r"roi_heads\.mask_head\.\d+\.")
_OUR_BOX_STAGE = re.compile(r"roi_heads\.box_predictor\.(\d+)\.")


def export_detector_state_dict(
    state_dict: Mapping[str, Tensor],
    kind: str,
    backbone: Mapping[str, Any] | ReferenceLayout | None = None,
) -> dict[str, Tensor]:
    """Brings the weights of a detector under mmdetection 2's names.

    Args:
        state_dict: Tensors under the names of a ``GeneralizedRCNN`` or a ``DINO`` with a PIIP
            backbone.
        kind: See :func:`convert_detector_state_dict`.
        backbone: The reference's configuration of the backbone, or how it names its weights; None
            for heads alone.

    Returns:
        The tensors under mmdetection's names, the backbone's as
        :func:`export_backbone_state_dict` completes them. The only mask head of a cascade becomes
        that of every stage, whose mean is the same.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``kind`` or the configuration is unknown, or there is a backbone without one.
    """
    weights = {
        name.removeprefix(OUR_PREFIX): x
        for name, x in state_dict.items()
        if name.startswith(OUR_PREFIX)
    }
    heads = {name: x for name, x in state_dict.items() if not name.startswith(OUR_PREFIX)}
    has_ensemble = any(_OUR_MASK_STAGE.match(name) for name in heads)
    form = DetectorForm(kind, has_mask_ensemble=has_ensemble)
    last = last_stage(heads, _OUR_BOX_STAGE)
    official = _export_backbone(weights, backbone)
    for norm, part in zip(NORM_KINDS, _by_norms(heads), strict=True):
        official |= rename_keys(part, rules_of(turned(detector_pairs(form, norm, {}, last))))
    if kind == "cascade_mask_rcnn" and not has_ensemble:
        official |= _copied_mask_heads(official, last)
    return official


def _export_backbone(
    weights: Mapping[str, Tensor], backbone: Mapping[str, Any] | ReferenceLayout | None
) -> dict[str, Tensor]:
    if backbone is None:
        if weights:
            raise ValueError(
                f"names of a backbone depend on its configuration, got none for {len(weights)} "
                f"weights below {OUR_PREFIX!r}: give it, or leave these weights out"
            )
        return {}
    layout = backbone if isinstance(backbone, ReferenceLayout) else read_layout(backbone)
    return {PREFIX + name: x for name, x in export_names(weights, layout).items()}


def _by_norms(heads: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parts that go with batch norms, which have statistics, and the rest."""
    with_batch_norm = {
        name
        for name in heads
        if ".norm." in name and f"{name.rpartition('.norm.')[0]}.norm.running_mean" in heads
    }
    return (
        {name: x for name, x in heads.items() if name in with_batch_norm},
        {name: x for name, x in heads.items() if name not in with_batch_norm},
    )


def _copied_mask_heads(official: Mapping[str, Tensor], last: int) -> dict[str, Tensor]:
    own = f"roi_head.mask_head.{last}."
    return {
        f"roi_head.mask_head.{stage}.{name.removeprefix(own)}": x
        for name, x in official.items()
        if name.startswith(own)
        for stage in range(last)
    }
