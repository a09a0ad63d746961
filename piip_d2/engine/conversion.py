"""Whole detectors of the authors' code as checkpoints of this package, and the way back."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from piip_d2._atomic_file import write_atomically
from piip_d2.checkpoint import export_detector_state_dict
from piip_d2.checkpoint.backbone_names import is_never_used
from piip_d2.checkpoint.backbone_weights import PREFIX, adapt_tensors
from piip_d2.checkpoint.detector_names import OUR_PREFIX, rename_detector
from piip_d2.checkpoint.foreign_files import (
    find_checkpoint,
    read_foreign_detector,
)
from piip_d2.checkpoint.network_difference import class_difference, difference
from piip_d2.checkpoint.network_layout import layout_of_network
from piip_d2.checkpoint.reading import check_archive, read_checkpoint
from piip_d2.checkpoint.reference_config import resolutions_in
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine.checkpointer import CheckpointSaveError
from piip_d2.engine.config import load_config
from piip_d2.engine.conversion_report import ConversionError, ConversionReport
from piip_d2.engine.metadata import describe_run

logger = logging.getLogger(__name__)

_FINEST_MAP = f"{OUR_PREFIX}feature_maps.maps.res2."
_STATISTICS = ("pixel_mean", "pixel_std")
_ANOTHER_MODEL = (
    "these weights do not fit the model of the config: take the config that they were trained with"
)


def convert_checkpoint(
    source: str,
    config: str,
    output: str | Path,
    *,
    overrides: Sequence[str] = (),
    unsafe: bool = False,
    to_official: bool = False,
) -> ConversionReport:
    """Converts a checkpoint of a detector between the authors' form and ours.

    The model of the config is built without memory, and every name and shape is compared with it.
    Nothing is written unless all of them fit.

    Args:
        source: A file, an address that Detectron2 can open, or a folder of DeepSpeed.
        config: The config of the detector.
        output: The file to write; its folder must exist.
        overrides: Changes to the config, ``path.to.key=value``.
        unsafe: Whether to run what a pickle says, see :func:`read_foreign_detector`.
        to_official: Whether to go from our form to the authors'.

    Returns:
        What became of every weight.

    Raises:
        ConversionError: If weights are missing, left over or of another shape.
        FileNotFoundError: If the config or the output's folder is not there.
        CheckpointSaveError: If the output cannot be written.
        ValueError: If the source cannot be read or the config is of no PIIP detector.
    """
    file, output = find_checkpoint(source), Path(output)
    _check_output(file, output)
    cfg = load_config(config, overrides)
    apply_data_section(cfg)
    model = build_without_memory(cfg)
    kind = _detector_kind(model)
    if to_official:
        converted, report = _to_official(file, model, kind)
        names = describe_run(cfg, model, "")["class_names"]
        contents: dict[str, Any] = {"meta": {"CLASSES": names} if names else {}}
        contents["state_dict"] = converted
    else:
        foreign = read_foreign_detector(file, unsafe=unsafe)
        converted, report = match_weights(foreign.weights, model, kind)
        if not report.is_complete:
            raise ConversionError(_explain(foreign.weights, model, report), report)
        check_archive(str(file))
        metadata = describe_run(cfg, model, _config_text(cfg)) | {"converted_from": file.name}
        _compare_resolutions(foreign.config, metadata["resolutions"])
        contents = {"model": _in_32_bits(converted, report), "metadata": metadata}
    try:
        write_atomically(output, partial(torch.save, contents))
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        reason = error.__context__ or error
        raise CheckpointSaveError(f"cannot write {output}: {reason}") from error
    return report


def build_without_memory(cfg: DictConfig) -> nn.Module:
    """Builds the model of a config with shapes alone, but for the statistics of pixels."""
    with torch.device("meta"):
        model: nn.Module = instantiate(cfg.model)
    for name in _STATISTICS:
        if isinstance(getattr(model, name, None), Tensor) and name in cfg.model:
            values = torch.tensor([float(value) for value in cfg.model[name]])
            model.register_buffer(name, values.view(-1, 1, 1), persistent=False)
    return model


def match_weights(
    weights: Mapping[str, Tensor], model: nn.Module, kind: str
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Gives the authors' weights our names and compares them with a model.

    Args:
        weights: Tensors under the authors' names.
        model: The model, with or without memory.
        kind: See :func:`convert_detector_state_dict`.

    Returns:
        What has a place in the model, and the report.
    """
    sources, unknown = rename_detector({name: name for name in weights}, kind)
    wanted = model.state_dict()
    has_finest = any(name.startswith(_FINEST_MAP) for name in wanted)
    unused = {name for name in sources if name.startswith(_FINEST_MAP) and not has_finest}
    report = ConversionReport(
        dropped=[name for name in weights if is_never_used(name.removeprefix(PREFIX))],
        unexpected=list(unknown),
        missing=[name for name in wanted if name not in sources],
    )
    report.dropped += [sources[name] for name in unused]
    converted = adapt_tensors({name: weights[source] for name, source in sources.items()})
    for name, tensor in list(converted.items()):
        if name not in wanted:
            del converted[name]
            if name not in unused:
                report.unexpected.append(sources[name])
        elif tensor.shape != wanted[name].shape:
            report.misshapen[name] = (tuple(tensor.shape), tuple(wanted[name].shape))
        else:
            report.matched.append(name)
            if tensor.numel() < weights[sources[name]].numel():
                report.cut.append(sources[name])
    return converted, report


def _to_official(
    file: Path, model: nn.Module, kind: str
) -> tuple[dict[str, Tensor], ConversionReport]:
    layout = layout_of_network(model.get_submodule("backbone.bottom_up"))  # type: ignore[arg-type]
    loaded = read_checkpoint(str(file))
    weights = dict(loaded.get("model", loaded))
    if "weights" in (loaded.get("ema") or {}):
        logger.info("The moving average of the weights is taken.")
        weights |= loaded["ema"]["weights"]
    wanted = model.state_dict()
    report = ConversionReport(
        missing=[name for name in wanted if name not in weights],
        unexpected=[name for name in weights if name not in wanted],
        misshapen={
            name: (tuple(weights[name].shape), tuple(tensor.shape))
            for name, tensor in wanted.items()
            if name in weights and weights[name].shape != tensor.shape
        },
    )
    if not report.is_complete:
        raise ConversionError(
            "the checkpoint is not of the config's model: " + _counts(report), report
        )
    official = export_detector_state_dict(weights, kind, layout)
    back, _ = rename_detector({name: name for name in official}, kind)
    used = {back[name] for name in weights}
    report.matched = [name for name in official if name in used]
    report.added = [name for name in official if name not in used]
    return official, report


def _detector_kind(model: nn.Module) -> str:
    backbone = getattr(getattr(model, "backbone", None), "bottom_up", None)
    heads = getattr(model, "roi_heads", None)
    is_dino = hasattr(getattr(model, "transformer", None), "query_selection")
    if backbone is None or not hasattr(backbone, "branches") or not (heads or is_dino):
        raise ValueError(
            "the config's model is no Faster or Mask R-CNN on a PIIP backbone with an FPN, and no "
            "DINO on one; checkpoints of other detectors cannot be converted"
        )
    if is_dino:
        return "dino"
    if isinstance(getattr(heads, "box_head", None), nn.ModuleList):
        raise ValueError("checkpoints of Cascade R-CNN cannot be converted")
    return "mask_rcnn" if getattr(heads, "mask_on", False) else "faster_rcnn"


def _explain(weights: Mapping[str, Tensor], model: nn.Module, report: ConversionReport) -> str:
    """Says in a sentence why weights do not fit, in the most telling words that can be found."""
    if any(name.startswith(OUR_PREFIX) for name in weights):
        return (
            "these weights have the names of this package already: give the file as "
            "train.init_checkpoint, or convert it back with --to-official"
        )
    if not any(name.startswith(PREFIX) for name in weights):
        return (
            "these are no weights of an mmdetection model: none of the "
            f"{len(weights)} names begins with {PREFIX!r} ({', '.join(list(weights)[:3])}, …). "
            "A backbone alone is converted by piip_d2.checkpoint.convert_backbone_state_dict; "
            "weights of a single pre-trained network are given as train.branch_weights"
        )
    network = model.get_submodule("backbone.bottom_up")
    found = difference(weights, network)  # type: ignore[arg-type]
    reason = found or class_difference(weights, model) or _ANOTHER_MODEL
    return f"{reason} ({_counts(report)})"


def _counts(report: ConversionReport) -> str:
    return (
        f"{len(report.missing)} missing, {len(report.unexpected)} unexpected, "
        f"{len(report.misshapen)} of another shape"
    )


def _compare_resolutions(config: str, resolutions: Sequence[int] | None) -> None:
    """Warns where the file says that it was trained at others, which no weight would show."""
    trained = resolutions_in(config)[::-1]
    if trained and resolutions and trained != list(resolutions):
        logger.warning(
            "These weights were trained at the resolutions %s, but the config has %s, which the "
            "output is marked with: take the config that they were trained with, unless other "
            "resolutions are meant.",
            trained,
            list(resolutions),
        )


def _in_32_bits(weights: Mapping[str, Tensor], report: ConversionReport) -> dict[str, Tensor]:
    kinds = Counter(
        str(x.dtype).removeprefix("torch.")
        for x in weights.values()
        if x.is_floating_point() and x.dtype != torch.float32
    )
    report.raised.update(kinds)
    return {name: _own_float32(tensor) for name, tensor in weights.items()}


def _own_float32(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype != torch.float32:
        return tensor.float()
    # A slice of a larger buffer would be stored with all of it.
    is_slice = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone() if is_slice else tensor


def _check_output(file: Path, output: Path) -> None:
    if output.is_dir():
        raise IsADirectoryError(f"the output {output} is a folder; give a file, such as model.pth")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"the folder of the output {output} does not exist; make it first")
    if output.exists() and os.path.samefile(file, output):
        raise ValueError(f"the output {output} is the source itself; give another name")


def _config_text(cfg: DictConfig) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        return path.read_text(encoding="utf-8")
