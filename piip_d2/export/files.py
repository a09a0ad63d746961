"""Writes traced programs, as ``torch.export`` does or as ONNX."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from piip_d2._optional import require
from piip_d2.ops.grid_sample_form import lowered_to_grid_sample

# Name of the extra file with the metadata within a .pt2.
METADATA_FILE = "piip_d2.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Exported:
    """A file, and what it was made from.

    Args:
        path: The file.
        module: What was traced; computes the same by the operators of this package.
        input_names: Names of its arguments, in order.
        output_names: Names of its results, in order.
        examples: Arguments to try both on, the first being those it was traced with.
    """

    path: Path
    module: nn.Module
    input_names: Sequence[str]
    output_names: Sequence[str]
    examples: Sequence[tuple[Tensor, ...]]


@torch.no_grad()
def trace(
    module: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None
) -> ExportedProgram:
    """Makes a program of operators of PyTorch alone.

    Args:
        module: In evaluation mode.
        inputs: Its arguments.
        dynamic_shapes: See :func:`torch.export.export`; None fixes all sizes.

    Returns:
        The program.
    """
    with lowered_to_grid_sample():
        return torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes)


def write(
    program: ExportedProgram, exported: Exported, *, opset: int, metadata: Mapping[str, str]
) -> None:
    """Writes a program in the format that the name of the file says.

    Args:
        program: What :func:`trace` gave.
        exported: File and names.
        opset: Version of ONNX's operators; of no meaning for ``.pt2``.
        metadata: What a user of the file has to know.

    Raises:
        ImportError: If packages for ONNX are missing.
        ValueError: If PyTorch cannot write this version of the operators.
    """
    if exported.path.suffix == ".pt2":
        extra = {METADATA_FILE: json.dumps(dict(metadata))}
        torch.export.save(program, exported.path, extra_files=extra)
        return
    for package in ("onnx", "onnxscript"):
        require(package, "exporting to ONNX")
    converted = torch.onnx.export(
        program,
        exported.examples[0],
        dynamo=True,
        opset_version=opset,
        input_names=list(exported.input_names),
        output_names=list(exported.output_names),
        verbose=False,
    )
    assert converted is not None
    written = converted.model.opset_imports[""]
    if written != opset:
        raise ValueError(
            f"PyTorch {torch.__version__} could not write opset {opset}, only {written}; export "
            f"with opset {written}"
        )
    converted.model.metadata_props.update(metadata)
    converted.save(exported.path)
