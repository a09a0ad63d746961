"""A cascade of mmdetection's kind in plain functions: no classes, no Detectron2.

It reads weights by mmdetection's names, loops over images, proposals and classes, and shares
nothing with the package but torchvision's RoIAlign and non-maximum suppression.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms, roi_align

Weights = dict[str, Tensor]
STRIDES = (4, 8, 16, 32, 64)
DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


class Detections(NamedTuple):
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


def detect(weights: Weights, maps: list[Tensor], size: tuple[int, int], num: int) -> Detections:
    """Detects objects in one image.

    Args:
        weights: Of RPN, three box heads and three mask heads.
        maps: Maps of the pyramid, (1, C, H, W), finest first.
        size: Height and width of the image.
        num: Proposals per level before, and of all levels after suppression.
    """
    rois = propose(weights, maps, size, num)
    all_logits = []
    for stage in range(3):
        logits, deltas = box_head(weights, f"roi_head.bbox_head.{stage}", crop(maps, rois, 7))
        all_logits.append(logits)
        if stage < 2:
            for number in range(len(rois)):
                best = int(logits[number, :-1].argmax())
                delta = deltas[number, 4 * best : 4 * best + 4]
                rois[number] = decode(rois[number], delta, DEVIATIONS[stage], size)
    probs = ((all_logits[0] + all_logits[1] + all_logits[2]) / 3).softmax(dim=1)
    found: list[tuple[float, int, Tensor]] = []
    for label in range(probs.shape[1] - 1):
        rows = (probs[:, label] > 0.05).nonzero()[:, 0].tolist()
        if not rows:
            continue
        of_class = slice(4 * label, 4 * label + 4)
        boxes = torch.stack(
            [decode(rois[i], deltas[i, of_class], DEVIATIONS[2], size) for i in rows]
        )
        scores = probs[rows, label]
        found += [(float(scores[i]), label, boxes[i]) for i in nms(boxes, scores, 0.5).tolist()]
    found = sorted(found, key=lambda row: -row[0])[:100]
    boxes = torch.stack([box for _, _, box in found])
    labels = torch.tensor([label for _, label, _ in found])
    return Detections(
        boxes,
        torch.tensor([score for score, _, _ in found]),
        labels,
        masks(weights, maps, boxes, labels),
    )


def propose(weights: Weights, maps: list[Tensor], size: tuple[int, int], num: int) -> Tensor:
    boxes, scores, levels = [], [], []
    for level, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        for number in range(2):
            name = f"rpn_head.rpn_conv.{number}.conv"
            x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).relu()
        logits = F.conv2d(x, weights["rpn_head.rpn_cls.weight"], weights["rpn_head.rpn_cls.bias"])[
            0
        ]
        deltas = F.conv2d(x, weights["rpn_head.rpn_reg.weight"], weights["rpn_head.rpn_reg.bias"])[
            0
        ]
        of_level = []
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                for number, ratio in enumerate((0.5, 1.0, 2.0)):
                    half_w = 4 * stride / math.sqrt(ratio)
                    half_h = 4 * stride * math.sqrt(ratio)
                    x_center, y_center = column * stride, row * stride
                    anchor = torch.tensor(
                        [x_center - half_w, y_center - half_h, x_center + half_w, y_center + half_h]
                    )
                    delta = deltas[4 * number : 4 * number + 4, row, column]
                    box = decode(anchor, delta, (1.0, 1.0, 1.0, 1.0), size)
                    of_level.append((float(logits[number, row, column]), box))
        of_level = sorted(of_level, key=lambda pair: -pair[0])[:num]
        boxes += [box for _, box in of_level]
        scores += [score for score, _ in of_level]
        levels += [level] * len(of_level)
    kept: list[int] = []
    all_boxes, all_scores = torch.stack(boxes), torch.tensor(scores)
    for level in range(len(maps)):
        rows = torch.tensor([i for i, of_box in enumerate(levels) if of_box == level])
        rows = rows[(all_boxes[rows, 2:] > all_boxes[rows, :2]).all(dim=1)]
        kept += rows[nms(all_boxes[rows], all_scores[rows], 0.7)].tolist()
    kept = sorted(kept, key=lambda i: -scores[i])[:num]
    return all_boxes[kept]


def decode(
    box: Tensor, delta: Tensor, deviations: tuple[float, ...], size: tuple[int, int]
) -> Tensor:
    """Moves a box by what is predicted, and cuts it at the borders of the image."""
    left, top, right, bottom = box.tolist()
    dx, dy, dw, dh = (float(d) * s for d, s in zip(delta, deviations, strict=True))
    width, height = right - left, bottom - top
    x_center = left + width / 2 + dx * width
    y_center = top + height / 2 + dy * height
    width *= math.exp(min(dw, math.log(1000 / 16)))
    height *= math.exp(min(dh, math.log(1000 / 16)))

    def inside(value: float, end: int) -> float:
        return min(max(value, 0.0), float(end))

    return torch.tensor(
        [
            inside(x_center - width / 2, size[1]),
            inside(y_center - height / 2, size[0]),
            inside(x_center + width / 2, size[1]),
            inside(y_center + height / 2, size[0]),
        ]
    )


def crop(maps: list[Tensor], boxes: Tensor, side: int) -> Tensor:
    """Cuts every box out of the map that its size belongs to."""
    regions = []
    for left, top, right, bottom in boxes.tolist():
        scale = math.sqrt((right - left) * (bottom - top))
        level = min(max(math.floor(math.log2(scale / 56 + 1e-6)), 0), 3)
        roi = torch.tensor([[0, left, top, right, bottom]])
        regions.append(
            roi_align(maps[level], roi, side, 1 / STRIDES[level], sampling_ratio=0, aligned=True)
        )
    return torch.cat(regions)


def box_head(weights: Weights, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    for number in range(4):
        layer = f"{name}.shared_convs.{number}"
        x = F.conv2d(x, weights[f"{layer}.conv.weight"], padding=1)
        mean, var, weight, bias = (
            weights[f"{layer}.bn.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def linear(layer: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.{layer}.weight"].T + weights[f"{name}.{layer}.bias"]

    x = linear("shared_fcs.0", x.reshape(len(x), -1)).clamp(min=0)
    return linear("fc_cls", x), linear("fc_reg", x)


def masks(weights: Weights, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
    """The mean probability of three heads that a pixel is of the object, (R, 28, 28)."""
    regions, total = crop(maps, boxes, 14), torch.zeros(len(boxes), 28, 28)
    for stage in range(3):
        name, x = f"roi_head.mask_head.{stage}", regions
        for number in range(4):
            layer = f"{name}.convs.{number}.conv"
            x = F.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], padding=1).relu()
        layer = f"{name}.upsample"
        x = F.conv_transpose2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], stride=2)
        layer = f"{name}.conv_logits"
        x = F.conv2d(x.relu(), weights[f"{layer}.weight"], weights[f"{layer}.bias"])
        total += torch.stack([x[i, label] for i, label in enumerate(labels.tolist())]).sigmoid() / 3
    return total


def random_weights(*, channels: int, fc_dim: int, mask_dim: int, num_classes: int) -> Weights:
    """Weights under mmdetection's names, with statistics of norms as training leaves them."""
    weights: Weights = {}

    def layer(name: str, *shape: int, gain: float = 1.4, bias: int | None = None) -> None:
        weights[f"{name}.weight"] = torch.randn(shape) * gain / math.sqrt(math.prod(shape[1:]))
        if bias:
            weights[f"{name}.bias"] = torch.randn(bias) * 0.1

    for number in range(2):
        layer(f"rpn_head.rpn_conv.{number}.conv", channels, channels, 3, 3, bias=channels)
    layer("rpn_head.rpn_cls", 3, channels, 1, 1, bias=3)
    layer("rpn_head.rpn_reg", 12, channels, 1, 1, gain=0.3, bias=12)
    for stage in range(3):
        name = f"roi_head.bbox_head.{stage}"
        for number in range(4):
            norm = f"{name}.shared_convs.{number}.bn"
            layer(f"{name}.shared_convs.{number}.conv", channels, channels, 3, 3)
            weights[f"{norm}.weight"] = 0.5 + torch.rand(channels)
            weights[f"{norm}.bias"] = torch.randn(channels) * 0.3
            weights[f"{norm}.running_mean"] = torch.randn(channels) * 0.5
            weights[f"{norm}.running_var"] = 0.5 + 2 * torch.rand(channels)
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(7330)
        layer(f"{name}.shared_fcs.0", fc_dim, channels * 49, bias=fc_dim)
        layer(f"{name}.fc_cls", num_classes + 1, fc_dim, gain=4.0, bias=num_classes + 1)
        layer(f"{name}.fc_reg", 4 * num_classes, fc_dim, gain=1.0, bias=4 * num_classes)
        name = f"roi_head.mask_head.{stage}"
        for number in range(4):
            width = mask_dim if number else channels
            layer(f"{name}.convs.{number}.conv", mask_dim, width, 3, 3, bias=mask_dim)
        layer(f"{name}.upsample", mask_dim, mask_dim, 2, 2, gain=2.0, bias=mask_dim)
        layer(f"{name}.conv_logits", num_classes, mask_dim, 1, 1, gain=2.0, bias=num_classes)
    return weights
