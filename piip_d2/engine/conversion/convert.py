"""Whole detectors of other programs as checkpoints of this package, and the way back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from piip_d2._atomic_file import write_atomically
from piip_d2.checkpoint.foreign_files import find_checkpoint, read_foreign_detector
from piip_d2.checkpoint.reading import check_archive
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine.checkpointer import CheckpointSaveError
from piip_d2.engine.config import load_config
from piip_d2.engine.config_text import config_as_yaml
from piip_d2.engine.conversion.export import export_checkpoint
from piip_d2.engine.conversion.matching import form_of_model, match_weights
from piip_d2.engine.conversion.reasons import explain
from piip_d2.engine.conversion.remarks import find_remarks
from piip_d2.engine.conversion.report import ConversionError, ConversionReport
from piip_d2.engine.metadata import describe_run
from piip_d2.engine.output_paths import check_output_file

_STATISTICS = ("pixel_mean", "pixel_std")


def convert_checkpoint(
    source: str,
    config: str,
    output: str | Path,
    *,
    overrides: Sequence[str] = (),
    unsafe: bool = False,
    to_official: bool = False,
    names: str | None = None,
) -> ConversionReport:
    """Converts a checkpoint of a detector between the form of another program and ours.

    The model of the config is built without memory, and every name and shape is compared with it.
    Nothing is written unless all of them fit.

    Args:
        source: A file, an address that Detectron2 can open, or a folder of DeepSpeed.
        config: The config of the detector.
        output: The file to write; its folder must exist.
        overrides: Changes to the config, ``path.to.key=value``.
        unsafe: Whether to run what a pickle says, see :func:`read_foreign_detector`.
        to_official: Whether to go from our form to that of PIIP's authors.
        names: Which program has named the weights, a key of
            :data:`piip_d2.checkpoint.detectors.sources.SOURCES`; told by the names if it is None.

    Returns:
        What became of every weight, and what in the config would give other numbers.

    Raises:
        ConversionError: If weights are missing, left over or of another shape.
        FileNotFoundError: If the config is not there.
        CheckpointSaveError: If the output could not be written.
        ValueError: If the source cannot be read, the output cannot be written, or the config is of
            another detector.
    """
    file, output = find_checkpoint(source), Path(output)
    check_output_file(output, "the output")
    if output.exists() and os.path.samefile(file, output):
        raise ValueError(f"the output {output} is the source itself; give another name")
    cfg = load_config(config, overrides)
    apply_data_section(cfg)
    model = build_without_memory(cfg)
    if to_official:
        form = form_of_model(model)
        converted, report = export_checkpoint(file, model, form)
        report.remarks = find_remarks(model, form, to_official=True)
        classes = describe_run(cfg, model, "")["class_names"]
        contents: dict[str, Any] = {"meta": {"CLASSES": classes} if classes else {}}
        contents["state_dict"] = converted
    else:
        converted, report = _import(file, model, names, unsafe=unsafe)
        metadata = describe_run(cfg, model, config_as_yaml(cfg)) | {"converted_from": file.name}
        contents = {"model": converted, "metadata": metadata}
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


def _import(
    file: Path, model: nn.Module, names: str | None, *, unsafe: bool
) -> tuple[dict[str, Tensor], ConversionReport]:
    foreign = read_foreign_detector(file, unsafe=unsafe)
    match = match_weights(foreign.weights, model, names)
    report = match.report
    if not report.is_complete:
        raise ConversionError(explain(foreign.weights, model, match), report)
    check_archive(str(file))
    report.remarks = find_remarks(model, match.form, config=foreign.config)
    return _in_32_bits(match.weights, report), report


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
