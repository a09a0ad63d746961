"""Costs of single layers, as the counter of the reference sees them.

That counter hangs on modules: what a function does costs nothing there. A multiply-add counts as
one operation. Layers of a type it does not know cost nothing either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from timm.layers import LayerNorm2d
from torch import nn

from piip_d2.analysis.structure import MapSize

# Work of a layer on a map, and the map that comes out.
_Count = tuple[int, MapSize]


def linear_flops(layer: nn.Module, cells: int) -> int:
    """Multiply-adds of a linear layer on so many cells; its bias is left out."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a linear layer is needed, got {type(layer).__name__}")
    return layer.in_features * layer.out_features * cells


def norm_flops(layer: nn.Module | None, elements: int) -> int:
    """Operations of a norm on so many numbers; those of RMS norms are not counted."""
    return 2 * elements if type(layer) in (nn.LayerNorm, nn.GroupNorm) else 0


def layers_flops(layers: nn.Module, size: MapSize) -> _Count:
    """Runs a map through a layer or a sequence of layers.

    Args:
        layers: One layer or ``nn.Sequential``.
        size: The map that goes in.

    Returns:
        Multiply-adds, and the size of the map that comes out.

    Raises:
        ValueError: If a layer is of a type that has no rule here.
    """
    if isinstance(layers, nn.Sequential):
        total = 0
        for layer in layers:
            flops, size = layers_flops(layer, size)
            total += flops
        return total, size
    for kind in type(layers).__mro__:
        if kind in _COUNTERS:
            return _COUNTERS[kind](layers, size)
    raise ValueError(f"the reference's counter has no rule for {type(layers).__name__}")


def _conv(layer: nn.Conv2d, size: MapSize) -> _Count:
    kernel, stride, padding = (_square(x) for x in (layer.kernel_size, layer.stride, layer.padding))
    out = MapSize(layer.out_channels, (size.side + 2 * padding - kernel) // stride + 1)
    products = out.elements * kernel**2 * layer.in_channels // layer.groups
    return products + _bias(layer, out), out


def _conv_transpose(layer: nn.ConvTranspose2d, size: MapSize) -> _Count:
    kernel, stride = _square(layer.kernel_size), _square(layer.stride)
    out = MapSize(layer.out_channels, (size.side - 1) * stride + kernel)
    products = size.elements * kernel**2 * layer.out_channels
    return products + _bias(layer, out), out


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d, out: MapSize) -> int:
    return 0 if layer.bias is None else out.elements


def _max_pool(layer: nn.MaxPool2d, size: MapSize) -> _Count:
    return size.elements, replace(size, side=size.side // _square(layer.stride))


def _norm(layer: nn.Module, size: MapSize) -> _Count:
    return norm_flops(layer, size.elements), size


def _relu(layer: nn.Module, size: MapSize) -> _Count:
    return size.elements, size


def _free(layer: nn.Module, size: MapSize) -> _Count:
    return 0, size


def _square(setting: Any) -> int:
    sides = set(setting) if isinstance(setting, tuple) else {setting}
    if len(sides) != 1 or not isinstance(setting, tuple | int):
        raise ValueError(f"only square kernels and strides are counted, got {setting}")
    return int(sides.pop())


_COUNTERS: dict[type[nn.Module], Callable[[Any, MapSize], _Count]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
    nn.MaxPool2d: _max_pool,
    nn.GroupNorm: _norm,
    nn.LayerNorm: _norm,
    nn.ReLU: _relu,
    nn.GELU: _free,
    nn.Identity: _free,
    # A class of its own in the reference, which its counter does not know.
    LayerNorm2d: _free,
}
