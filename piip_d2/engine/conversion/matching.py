"""Compares the weights of another program with one of our models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from piip_d2.checkpoint.detectors.coco_rows import has_class_rows
from piip_d2.checkpoint.detectors.dino_names import OUR_LABELS
from piip_d2.checkpoint.detectors.form import DetectorForm, rcnn_kind
from piip_d2.checkpoint.detectors.names import (
    OUR_PREFIX,
    UNUSED,
    RenamedDetector,
    rename_detector,
    take_weights,
)
from piip_d2.checkpoint.detectors.sources import recognize_source
from piip_d2.engine.conversion.report import ConversionReport

_FINEST_MAP = f"{OUR_PREFIX}feature_maps.maps.res2."
_BATCHES = ".num_batches_tracked"
_NECK_BIAS = re.compile(r"backbone\.(extra_)?convs\.\d+\.conv\.bias$")

_NO_DENOISING = "labels of noisy queries, which the config trains without"
_NO_COUNTS = "counts of batches, which frozen norms do not have"
_NO_BIAS = "zeros: the file's convolutions have no biases"
_CLASS_ROWS = "rows of numbers that COCO gives no class, or of no class at all"
_TOKEN_ROWS = "rows of class tokens or later times, used by nothing"


@dataclass
class Match:
    """Weights of another program beside one of our models.

    Args:
        form: Which detector was looked for, under whose names.
        is_recognized: Whether any name is one of a program that is known.
        renamed: What became of the names.
        found: All tensors that have a name of ours, whatever the model has a place for.
        weights: What the model has a place for, and what was put where the file has nothing.
        report: What became of every weight.
    """

    form: DetectorForm
    is_recognized: bool
    renamed: RenamedDetector
    found: dict[str, Tensor]
    weights: dict[str, Tensor]
    report: ConversionReport


def form_of_model(model: nn.Module, source: str = "mmdet") -> DetectorForm:
    """Tells which detector a model is.

    Args:
        model: The model.
        source: Whose names its weights have, see :class:`DetectorForm`. Those of R-CNNs are the
            same in both generations of mmdetection.

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
        rcnn_kind(is_cascade=is_cascade, has_masks=bool(heads.mask_on)),
        "mmdet" if source == "mmdet3" else source,
        has_mask_ensemble=isinstance(getattr(heads, "mask_head", None), nn.ModuleList),
        has_branches=has_branches,
        num_classes=heads.num_classes,
    )


def match_weights(
    weights: Mapping[str, Tensor], model: nn.Module, source: str | None = None
) -> Match:
    """Gives the weights of another program our names and compares them with a model.

    Args:
        weights: Tensors under the names of the source.
        model: The model, with or without memory.
        source: See :class:`DetectorForm`; told by the names if it is None.

    Returns:
        What has a place in the model, and what became of everything.

    Raises:
        ValueError: If the model is of no kind that can be converted, or of another than the
            source's.
    """
    recognized = recognize_source(weights)
    form = form_of_model(model, source or recognized or "mmdet")
    renamed = rename_detector(weights, form)
    wanted = model.state_dict()
    report = ConversionReport(
        dropped=dict(renamed.dropped),
        unexpected=list(renamed.unknown),
        foreign=list(renamed.foreign),
        contradictory=list(renamed.contradictory.values()),
        missing=[name for name in wanted if name not in renamed.sources],
    )
    found = take_weights(weights, renamed, form)
    converted = dict(found)
    for name in [name for name in found if name not in wanted]:
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
            reason = _CLASS_ROWS if has_class_rows(name) else _TOKEN_ROWS
            report.cut[renamed.sources[name]] = reason
    _set_apart_backbone(report, renamed.sources, wanted)
    converted |= _zero_biases(report, wanted)
    return Match(form, recognized is not None, renamed, found, converted, report)


def _needless(name: str, wanted: Mapping[str, Tensor]) -> str | None:
    if name.startswith(_FINEST_MAP) and not any(x.startswith(_FINEST_MAP) for x in wanted):
        return UNUSED
    if name.startswith(OUR_LABELS) and not any(x.startswith(OUR_LABELS) for x in wanted):
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
