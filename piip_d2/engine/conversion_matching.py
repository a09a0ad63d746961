"""Compares the weights of another program with one of our models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from piip_d2.checkpoint.detector_form import DetectorForm
from piip_d2.checkpoint.detector_names import OUR_PREFIX, UNUSED, rename_detector, take_weights
from piip_d2.checkpoint.detector_sources import recognize_source
from piip_d2.engine.conversion_report import ConversionReport

# By whether it is a cascade, and whether it has masks.
_RCNNS = {
    (False, False): "faster_rcnn",
    (False, True): "mask_rcnn",
    (True, False): "cascade_rcnn",
    (True, True): "cascade_mask_rcnn",
}
_FINEST_MAP = f"{OUR_PREFIX}feature_maps.maps.res2."
_LABELS = "denoising.label_enc."
_BATCHES = ".num_batches_tracked"
_NECK_BIAS = re.compile(r"backbone\.(extra_)?convs\.\d+\.conv\.bias$")

_NO_DENOISING = "labels of noisy queries, which the config trains without"
_NO_COUNTS = "counts of batches, which frozen norms do not have"
_NO_BIAS = "zeros: the file's convolutions have no biases"
_CLASS_ROWS = "rows of numbers that COCO gives no class, or of no class at all"
_TOKEN_ROWS = "rows of class tokens or later times, used by nothing"


def form_of_model(model: nn.Module, source: str = "mmdet") -> DetectorForm:
    """Tells which detector a model is.

    Args:
        model: The model.
        source: Whose names its weights have, see :class:`DetectorForm`.

    Returns:
        What the tables of names need to know.

    Raises:
        ValueError: If there are no tables for it, or none for this source.
    """
    backbone = getattr(getattr(model, "backbone", None), "bottom_up", None)
    heads: Any = getattr(model, "roi_heads", None)
    transformer: Any = getattr(model, "transformer", None)
    is_dino = hasattr(transformer, "query_selection")
    if backbone is None or not (is_dino or hasattr(heads, "box_predictor")):
        raise ValueError(
            "the config's model is no Faster, Mask or Cascade R-CNN with an FPN, and no DINO; "
            "checkpoints of other detectors cannot be converted"
        )
    has_branches = hasattr(backbone, "branches")
    if is_dino:
        return DetectorForm(
            "dino", source, has_branches=has_branches, num_classes=transformer.num_classes
        )
    is_cascade = isinstance(heads.box_predictor, nn.ModuleList)
    return DetectorForm(
        _RCNNS[is_cascade, bool(heads.mask_on)],
        source,
        has_mask_ensemble=isinstance(getattr(heads, "mask_head", None), nn.ModuleList),
        has_branches=has_branches,
        num_classes=heads.num_classes,
    )


def match_weights(
    weights: Mapping[str, Tensor], model: nn.Module, source: str | None = None
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Gives the weights of another program our names and compares them with a model.

    Args:
        weights: Tensors under the names of the source.
        model: The model, with or without memory.
        source: See :class:`DetectorForm`; told by the names if it is None.

    Returns:
        What has a place in the model, and the report.

    Raises:
        ValueError: If the model is of no kind that can be converted, or of another than the
            source's.
    """
    form = form_of_model(model, source or recognize_source(weights) or "mmdet")
    renamed = rename_detector(weights, form)
    wanted = model.state_dict()
    report = ConversionReport(
        dropped=dict(renamed.dropped),
        unexpected=list(renamed.unknown),
        foreign=list(renamed.foreign),
        missing=[name for name in wanted if name not in renamed.sources],
    )
    converted = take_weights(weights, renamed, form)
    for name in [name for name in converted if name not in wanted]:
        del converted[name]
        reason = _needless(name, wanted)
        if reason:
            report.dropped[renamed.sources[name]] = reason
        else:
            report.unexpected.append(renamed.sources[name])
    for name, tensor in converted.items():
        if tensor.shape != wanted[name].shape:
            report.misshapen[name] = (tuple(tensor.shape), tuple(wanted[name].shape))
            continue
        report.matched.append(name)
        if tensor.numel() < weights[renamed.sources[name]].numel():
            of_classes = ".class_embed." in name or name.startswith(_LABELS)
            report.cut[renamed.sources[name]] = _CLASS_ROWS if of_classes else _TOKEN_ROWS
    _set_apart_backbone(report, renamed.sources, wanted)
    return converted | _zero_biases(report, wanted), report


def _needless(name: str, wanted: Mapping[str, Tensor]) -> str | None:
    if name.startswith(_FINEST_MAP) and not any(x.startswith(_FINEST_MAP) for x in wanted):
        return UNUSED
    if name.startswith(_LABELS) and not any(x.startswith(_LABELS) for x in wanted):
        return _NO_DENOISING
    return _NO_COUNTS if name.endswith(_BATCHES) else None


def _set_apart_backbone(
    report: ConversionReport, sources: Mapping[str, str], wanted: Mapping[str, Tensor]
) -> None:
    """Calls a backbone foreign of which most has no place, where none of it is named here."""
    inside = {sources[name] for name in sources if name.startswith(OUR_PREFIX)}
    left_over = [name for name in report.unexpected if name in inside]
    if any(name.startswith(f"{OUR_PREFIX}branches.") for name in wanted):
        return
    if 2 * len(left_over) > len(inside):
        report.foreign += left_over
        report.unexpected = [name for name in report.unexpected if name not in inside]


def _zero_biases(report: ConversionReport, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    biases = [name for name in wanted if _NECK_BIAS.match(name)]
    if not biases or not set(biases) <= set(report.missing):
        return {}
    report.missing = [name for name in report.missing if name not in biases]
    report.added |= dict.fromkeys(biases, _NO_BIAS)
    return {name: torch.zeros(wanted[name].shape) for name in biases}
