"""Layers in a row of which norms and activations keep nothing but their input for training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from piip_d2.ops import saves_memory
from piip_d2.ops.autocast import autocast_state, restored_autocast

# Quick to compute again, and always with the same result.
_CHEAP = (nn.GroupNorm, nn.LayerNorm, LayerNorm2d, nn.GELU, nn.ReLU)


class FrugalSequential(nn.Sequential):
    """A :class:`torch.nn.Sequential` that keeps less for the backward pass.

    What norms and activations give is computed again there, both for themselves and for the layer
    behind them: of a convolution, a norm and an activation only the convolution's result is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Passes the layers one after the other."""
        if not saves_memory(x):
            return super().forward(x)
        cheap: list[nn.Module] = []
        for layer in self:
            if type(layer) in _CHEAP:
                cheap.append(layer)
            elif cheap:
                x = _behind(cheap, layer, x)
                cheap = []
            else:
                x = layer(x)
        return _checkpointed(cheap, x) if cheap else x


class _View(NamedTuple):
    """How a tensor lies in its storage."""

    size: Sequence[int]
    stride: Sequence[int]
    offset: int


def _behind(cheap: Sequence[nn.Module], layer: nn.Module, x: Tensor) -> Tensor:
    """Calls a layer behind cheap ones whose result it does not keep."""
    source, state = x.detach(), autocast_state(x.device)

    def compute() -> Tensor:
        with torch.no_grad(), restored_autocast(state):
            return nn.Sequential(*cheap)(source)

    prepared = _checkpointed(cheap, x)
    with _not_kept(prepared, compute):
        return layer(prepared)


def _checkpointed(cheap: Sequence[nn.Module], x: Tensor) -> Tensor:
    result: Tensor = checkpoint(
        nn.Sequential(*cheap), x, use_reentrant=False, preserve_rng_state=False
    )
    return result


@contextlib.contextmanager
def _not_kept(tensor: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Keeps a tensor out of what autograd saves in a block.

    Args:
        tensor: What is used in the block.
        compute: Gives it again, in the same layout.
    """
    storage = tensor.untyped_storage()._cdata

    def pack(saved: Tensor) -> Tensor | _View:
        if saved.untyped_storage()._cdata != storage:
            return saved
        return _View(saved.size(), saved.stride(), int(saved.storage_offset()))

    def unpack(kept: Tensor | _View) -> Tensor:
        return compute().as_strided(*kept) if isinstance(kept, _View) else kept

    with saved_tensors_hooks(pack, unpack):
        yield
