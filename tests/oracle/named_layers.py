"""Layers on maps (B, H, W, C) whose weights are looked up by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def layer_shapes(name: str, *weight: int, with_bias: bool = True) -> Shapes:
    """Shapes of a weight and of a bias that has one value for each of the weight's rows."""
    shapes: Shapes = {f"{name}.weight": weight}
    if with_bias:
        shapes[f"{name}.bias"] = weight[:1]
    return shapes


def linear(weights: Weights, name: str, features: Tensor) -> Tensor:
    return F.linear(features, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def layer_norm(weights: Weights, name: str, features: Tensor, eps: float = 1e-6) -> Tensor:
    centred = features - features.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def rms_norm(weights: Weights, name: str, features: Tensor, eps: float = 1e-6) -> Tensor:
    mean_square = features.square().mean(dim=-1, keepdim=True)
    return features / (mean_square + eps).sqrt() * weights[f"{name}.weight"]


def group_norm(weights: Weights, name: str, features: Tensor, num_groups: int = 32) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return _last(F.group_norm(_first(features), num_groups, weight, bias, eps=1e-5))


def convolve(
    weights: Weights, name: str, features: Tensor, stride: int = 1, padding: int = 0
) -> Tensor:
    """Convolves; the number of groups is told by the shape of the weight."""
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    groups = features.shape[-1] // weight.shape[1]
    return _last(F.conv2d(_first(features), weight, bias, stride, padding, groups=groups))


def double(weights: Weights, name: str, features: Tensor) -> Tensor:
    """Doubles height and width by a transposed convolution."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return _last(F.conv_transpose2d(_first(features), weight, bias, stride=2))


def halve(features: Tensor) -> Tensor:
    """Takes the largest of each 2 x 2 cells."""
    return _last(F.max_pool2d(_first(features), kernel_size=2, stride=2))


def resize(features: Tensor, height: int, width: int, mode: str = "bilinear") -> Tensor:
    size = (height, width)
    return _last(F.interpolate(_first(features), size=size, mode=mode, align_corners=False))


def rescale(images: Tensor, factor: float) -> Tensor:
    """Shrinks images, with samples where the exact factor puts them."""
    return _last(
        F.interpolate(_first(images), scale_factor=factor, mode="bilinear", align_corners=False)
    )


def _first(features: Tensor) -> Tensor:
    return features.permute(0, 3, 1, 2)


def _last(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1)
