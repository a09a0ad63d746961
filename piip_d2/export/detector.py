"""Exports detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.export.description import describe_classes, describe_images
from piip_d2.export.files import Exported, trace, write
from piip_d2.export.refusals import check_model, check_opset, check_path
from piip_d2.modeling.dino import DINO
from piip_d2.modeling.dino.inference import select_pairs
from piip_d2.modeling.padding import padded_size


class ExportableDINO(nn.Module):
    """A DINO that takes a canvas of one size and gives as many detections for every image.

    Args:
        detector: The detector; its weights are shared.
    """

    def __init__(self, detector: DINO) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Finds objects.

        Args:
            images: (B, 3, H, W) as read, 0 to 255, channels in the order of the detector's
                ``input_format``. Every image stands in the upper left corner; what is right of it
                and below does not matter.
            sizes: (B, 2), height and width of every image in its canvas, integers.

        Returns:
            Boxes (B, K, 4) as left, top, right and bottom in pixels of the canvas, scores (B, K)
            and classes (B, K), best first, however low the score.
        """
        model = self.detector
        height, width = images.shape[-2:]
        canvas = (images - model.pixel_mean) / model.pixel_std * _inside(sizes, height, width)
        maps = list(model.backbone(canvas).values())
        # Tracing turns the numbers of a list, unlike those of a tensor, into inputs of the program.
        output = model.transformer(maps, sizes.tolist(), (height, width))
        corners, scores, classes = select_pairs(
            output.decoder.logits[-1], output.decoder.boxes[-1], model.topk_per_image
        )
        ends = sizes.flip(1).repeat(1, 2)[:, None].to(corners.dtype)
        corners = torch.minimum((corners * ends).clamp(min=0.0), ends)
        return corners, scores, classes


def export_detector(
    model: nn.Module,
    path: str | Path,
    image_size: tuple[int, int],
    *,
    opset: int = 18,
    batch_size: int = 1,
    class_names: Sequence[str] = (),
) -> Exported:
    """Writes a DINO, from pixels to boxes, as a program that runs without this package.

    The program has a canvas of fixed size, padded as the detector pads an image of ``image_size``,
    for images of that size and all that are smaller; see :class:`ExportableDINO`.

    Args:
        model: The detector, in evaluation mode and in float32.
        path: File to write; ``.onnx``, or ``.pt2`` for ``torch.export``.
        image_size: Height and width of the largest image in pixels, after resizing.
        opset: Version of ONNX's operators, 18 or higher.
        batch_size: Images in a batch; always fixed.
        class_names: Names of the classes by number, for the file's metadata.

    Returns:
        The file with what is needed to compare it.

    Raises:
        ValueError: If the model, the names or the file cannot be exported; the message says why.
        ImportError: If packages for ONNX are missing.
    """
    path = Path(path)
    check_path(path)
    check_opset(opset)
    if not isinstance(model, DINO):
        raise ValueError(
            f"only DINO is exported as a whole, got {type(model).__name__}: detectors with regions "
            "have as many of them as an image has objects. Export their backbone instead, or see "
            "docs/EXPORT.md for Detectron2's own ways"
        )
    check_model(model)
    padded = padded_size(image_size, model.backbone)
    module = ExportableDINO(model).eval()
    smaller = (max(padded[0] * 2 // 3, 1), max(padded[1] * 3 // 4, 1))
    examples = [_example(size, padded, batch_size, model.device) for size in (image_size, smaller)]
    names = ["boxes", "scores", "classes"]
    exported = Exported(path, module, ["images", "sizes"], names, examples)
    metadata = {
        "part": "detector",
        "images": "as read, 0 to 255, in the upper left corner of the canvas; the program "
        "normalises them by pixel_mean and pixel_std",
        **describe_images(model),
        **describe_classes(model.num_classes, class_names),
    }
    write(trace(module, examples[0]), exported, opset=opset, metadata=metadata)
    return exported


def _inside(sizes: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, H, W), False where a canvas is not covered by its image."""
    rows = torch.arange(height, device=sizes.device)[:, None]
    columns = torch.arange(width, device=sizes.device)
    heights, widths = sizes[:, :, None, None].unbind(1)  # (B, 1, 1) each
    return ((rows < heights) & (columns < widths))[:, None]


def _example(
    size: tuple[int, int], canvas: tuple[int, int], batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Random blobs, about as coarse as objects are."""
    coarse = torch.rand(batch_size, 3, size[0] // 16 + 1, size[1] // 16 + 1, device=device)
    images = F.interpolate(coarse * 255, size=size, mode="bilinear", align_corners=False)
    images = F.pad(images, (0, canvas[1] - size[1], 0, canvas[0] - size[0]))
    return images, torch.tensor([size] * batch_size, device=device)
