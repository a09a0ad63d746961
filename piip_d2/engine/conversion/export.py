"""A checkpoint of this package in the form of the authors' code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from piip_d2.checkpoint import export_detector_state_dict
from piip_d2.checkpoint.detectors.form import DetectorForm
from piip_d2.checkpoint.detectors.names import EARLIER_MASK_HEADS, rename_detector
from piip_d2.checkpoint.network_layout import layout_of_network
from piip_d2.checkpoint.reading import read_checkpoint
from piip_d2.engine.conversion.report import ConversionError, ConversionReport

logger = logging.getLogger(__name__)

_LABELS = "bbox_head.label_embedding.weight"

_NEUTRAL = "neutral values, used by nothing"
_COPIES = "copies of the config's only mask head, whose mean is that head"
_NO_LABELS = "zeros: the config trains without noisy queries"


def export_checkpoint(
    file: Path, model: nn.Module, form: DetectorForm
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Reads a checkpoint of ours and gives its weights the authors' names.

    Args:
        file: The checkpoint. Where it has a moving average of the weights, that is taken.
        model: The model of its config, with or without memory.
        form: Which detector that is.

    Returns:
        The weights, and what became of each.

    Raises:
        ConversionError: If the file is not of the model.
        ValueError: If the authors' code cannot build the model, or the file cannot be read.
    """
    if not form.has_branches:
        raise ValueError(
            "the authors' code has names for detectors on a PIIP backbone alone, the config has "
            f"a {type(model.get_submodule('backbone.bottom_up')).__name__}"
        )
    wanted = model.state_dict()
    if form.kind == "dino" and "backbone.convs.0.conv.bias" in wanted:
        raise ValueError(
            "the authors' code has no biases in the neck of DINO, but the config has "
            "model.backbone.bias=True"
        )
    layout = layout_of_network(model.get_submodule("backbone.bottom_up"))  # type: ignore[arg-type]
    weights = _read_own(file)
    report = _compare(weights, wanted)
    if not report.is_complete:
        raise ConversionError(
            f"the checkpoint is not of the config's model: {report.counts}", report
        )
    official = export_detector_state_dict(weights, form.kind, layout)
    back = rename_detector(official, form)
    used = {back.sources[name] for name in weights}
    report.matched = [name for name in official if name in used]
    report.added = {
        name: _COPIES if back.dropped.get(name) == EARLIER_MASK_HEADS else _NEUTRAL
        for name in official
        if name not in used
    }
    if form.kind == "dino" and _LABELS not in official:
        classes = official["bbox_head.cls_branches.0.weight"]
        official[_LABELS] = classes.new_zeros(classes.shape)
        report.added[_LABELS] = _NO_LABELS
    return official, report


def _read_own(file: Path) -> dict[str, Tensor]:
    loaded = read_checkpoint(str(file))
    weights = dict(loaded.get("model", loaded))
    if "weights" in (loaded.get("ema") or {}):
        logger.info("The moving average of the weights is taken.")
        weights |= loaded["ema"]["weights"]
    return weights


def _compare(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> ConversionReport:
    return ConversionReport(
        missing=[name for name in wanted if name not in weights],
        unexpected=[name for name in weights if name not in wanted],
        misshapen={
            name: (tuple(weights[name].shape), tuple(tensor.shape))
            for name, tensor in wanted.items()
            if name in weights and weights[name].shape != tensor.shape
        },
    )
