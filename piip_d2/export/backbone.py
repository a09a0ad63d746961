"""Exports backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from piip_d2.export.description import describe_images
from piip_d2.export.files import Exported, trace, write
from piip_d2.export.refusals import (
    check_backbone,
    check_model,
    check_opset,
    check_path,
    check_size,
)
from piip_d2.modeling.backbone import PIIPNetwork

# The longest side in pixels of the images that a program with dynamic sizes is for.
_MAX_SIDE = 8192


def export_backbone(
    model: nn.Module,
    path: str | Path,
    image_size: tuple[int, int],
    *,
    dynamic: bool = False,
    opset: int = 18,
    batch_size: int = 1,
) -> Exported:
    """Writes a backbone as a program that runs without this package.

    The program takes ``images`` (B, 3, H, W), normalised and padded as the detector does it, and
    gives one map (B, C, h, w) per name, finest first. Deformable attention becomes ``grid_sample``.
    The file's metadata say by what images are normalised, where the model knows it.

    Args:
        model: A :class:`PIIPNetwork`, a backbone that holds one, or a detector with such a
            backbone; in evaluation mode and in float32.
        path: File to write; ``.onnx``, or ``.pt2`` for ``torch.export``.
        image_size: Height and width in pixels.
        dynamic: Lets the program take images of other sizes too, which takes several times as
            long to export. Otherwise it is for this size alone.
        opset: Version of ONNX's operators, 18 or higher.
        batch_size: Images in a batch; always fixed.

    Returns:
        The file with what is needed to compare it.

    Raises:
        ValueError: If the model, the size or the file cannot be exported; the message says why.
        ImportError: If packages for ONNX are missing.
    """
    path = Path(path)
    check_path(path)
    check_opset(opset)
    backbone = getattr(model, "backbone", model)
    check_backbone(backbone)
    check_model(backbone)
    divisibility = _divisibility(backbone)
    check_size(image_size, divisibility)
    height, width = image_size
    sizes = [(height, width)]
    if dynamic:
        sizes.append((height + divisibility, width + 2 * divisibility))
    device = next(backbone.parameters()).device
    examples = [(torch.randn(batch_size, 3, *size, device=device),) for size in sizes]
    module = _MapsByName(backbone).eval()
    with torch.no_grad():
        names = list(module(*examples[0]))
    exported = Exported(path, module, ["images"], names, examples)
    program = trace(module, examples[0], _dynamic_sizes(divisibility) if dynamic else None)
    write(program, exported, opset=opset, metadata=_metadata(model, divisibility))
    return exported


class _MapsByName(nn.Module):
    """Gives programs one name for their input and plain dicts as output, whatever the backbone.

    Args:
        backbone: From images to a dict of maps.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(self.backbone(images))


def _metadata(model: nn.Module, divisibility: int) -> dict[str, str]:
    statistics = describe_images(model)
    by_what = " by pixel_mean and pixel_std" if "pixel_mean" in statistics else ""
    return {
        "part": "backbone",
        "images": f"normalised{by_what}, and then padded with zeros",
        "size_divisibility": str(divisibility),
        **statistics,
    }


def _divisibility(backbone: nn.Module) -> int:
    """What sides must be multiples of: as the detector pads, or the stride of the coarsest map."""
    divisibility: int = getattr(backbone, "size_divisibility", 0)
    if divisibility > 0:
        return divisibility
    networks = [module for module in backbone.modules() if isinstance(module, PIIPNetwork)]
    return max(networks[0].feature_maps.strides.values())


def _dynamic_sizes(divisibility: int) -> Any:
    most = _MAX_SIDE // divisibility
    return {
        "images": {
            2: divisibility * torch.export.Dim("rows", min=1, max=most),
            3: divisibility * torch.export.Dim("columns", min=1, max=most),
        }
    }
