"""What fully sharded training gathers and gives back, in bytes per process.

https://arxiv.org/abs/2304.11277, sections 3.3 and 4. These are upper bounds by formula, from the
same list of modules that training shards: nothing here was measured on GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from piip_d2.analysis.detectors import find_network
from piip_d2.engine.sharding import sharded_modules

_FLOAT32 = 4


@dataclass(frozen=True)
class _Unit:
    """Parameters that are gathered as one: how many, bytes of each once gathered and once sent."""

    size: int
    width: int
    sent_width: int

    @property
    def weights(self) -> int:
        return self.size * self.width

    @property
    def gathered(self) -> int:
        # The message that arrives, and the weights that are copied out of it.
        return 2 * self.weights

    @property
    def reduced(self) -> int:
        # Gradients as they are computed, and the message that they leave in.
        return self.size * (self.width + self.sent_width)


def gathered_peak(
    model: nn.Module,
    param_width: int,
    *,
    backward: bool,
    keeps_weights: bool = False,
    sent_width: int = _FLOAT32,
) -> int:
    """Finds how much stands gathered at a time.

    The model's own parameters stay gathered throughout. Of the other modules there are two: one
    that computes, and the next one, which is on its way; in the backward pass their gradients come
    on top. Where weights are kept, all stand gathered, and in the forward pass one message besides.

    Args:
        model: The model, whole.
        param_width: Bytes of a gathered parameter of the backbone's network; others have 4.
        backward: Whether gradients are computed.
        keeps_weights: Whether gathered weights stay after the forward pass.
        sent_width: Bytes of a gradient as it is sent.

    Returns:
        Bytes.
    """
    *units, root = _units(model, param_width, sent_width)
    if keeps_weights:
        weights = [unit.weights for unit in (*units, root)]
        if not backward:
            return sum(weights) + max(weights)
        return sum(weights) + root.reduced + _largest_pair([unit.reduced for unit in units])
    root_size = root.gathered + (root.reduced if backward else 0)
    sizes = [unit.gathered + (unit.reduced if backward else 0) for unit in units]
    return root_size + _largest_pair(sizes)


def _largest_pair(sizes: list[int]) -> int:
    """The most that two neighbours have together."""
    pairs = [first + second for first, second in zip(sizes[:-1], sizes[1:], strict=True)]
    return max(pairs or sizes or [0])


def _units(model: nn.Module, param_width: int, sent_width: int) -> list[_Unit]:
    in_network = set(find_network(model).modules())
    owned: set[nn.Parameter] = set()
    units = []
    modules = sharded_modules(model)
    roots = set(modules)
    for module in modules:
        parameters = {
            parameter
            for part in _own_modules(module, roots)
            for parameter in part.parameters(recurse=False)
        } - owned
        owned |= parameters
        width = param_width if module in in_network else _FLOAT32
        size = sum(parameter.numel() for parameter in parameters)
        units.append(_Unit(size, width, sent_width))
    return units


def _own_modules(module: nn.Module, roots: set[nn.Module]) -> list[nn.Module]:
    """The modules below one but for those that are sharded by themselves."""
    found = [module]
    for child in module.children():
        if child not in roots:
            found += _own_modules(child, roots)
    return found
