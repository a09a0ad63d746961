"""What cannot be exported, said before anything is traced."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from piip_d2.modeling.backbone import PIIPNetwork

# What PyTorch's exporter writes at least; GridSample and LayerNormalization came earlier.
MIN_OPSET = 18


def check_path(path: Path) -> None:
    """Checks where a program is to be written.

    Args:
        path: The file.

    Raises:
        ValueError: If the name ends otherwise than in .onnx or .pt2, or its folder is not there.
    """
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(
            f"the name of an exported file must end in .onnx or .pt2 (torch.export), got {path}"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} must be a file in a folder that there is; make the folder first")


def check_opset(opset: int) -> None:
    """Checks a version of ONNX's operators.

    Args:
        opset: The version.

    Raises:
        ValueError: If it has too few of them.
    """
    if opset < MIN_OPSET:
        raise ValueError(
            f"opset must be {MIN_OPSET} or higher, got {opset}: PyTorch's exporter writes no "
            "earlier version"
        )


def check_model(model: nn.Module) -> None:
    """Checks what holds for all models.

    Args:
        model: A detector or a backbone.

    Raises:
        ValueError: If it is in training mode, not of float32 or compiled.
    """
    if model.training:
        raise ValueError("only inference is exported: call model.eval() first")
    dtypes = {parameter.dtype for parameter in model.parameters()} - {torch.float32}
    if dtypes:
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise ValueError(
            f"models are exported in float32, got weights of {names}; call model.float() first and "
            "let the other runtime lower the precision"
        )
    for module in model.modules():
        if module._compiled_call_impl is not None:
            raise ValueError(
                "a compiled network cannot be exported; build the model anew, with "
                "train.compile.enabled=False"
            )


def check_backbone(model: nn.Module) -> None:
    """Checks that there is a pyramid to export.

    Args:
        model: What was given as a backbone.

    Raises:
        ValueError: If there is none.
    """
    if not any(isinstance(module, PIIPNetwork) for module in model.modules()):
        raise ValueError(
            f"a backbone to export must be a PIIPNetwork or hold one, got {type(model).__name__}"
        )


def check_size(image_size: tuple[int, int], divisibility: int) -> None:
    """Checks the size of the images of a backbone.

    Args:
        image_size: Height and width in pixels.
        divisibility: What both must be multiples of.

    Raises:
        ValueError: If they are not, with the size that would be.
    """
    padded = tuple(-(-side // divisibility) * divisibility for side in image_size)
    if padded != tuple(image_size) or min(image_size) < 1:
        raise ValueError(
            f"images of this backbone are padded to multiples of {divisibility} pixels, got "
            f"{image_size[0]} x {image_size[1]}; export it for {max(padded[0], divisibility)} x "
            f"{max(padded[1], divisibility)}"
        )
