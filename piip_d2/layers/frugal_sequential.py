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

from piip_d2.layers.module_hooks import has_hooks
from piip_d2.ops import saves_memory
from piip_d2.ops.autocast import autocast_state, restored_autocast

# Quick to compute again, and always with the same result.
_CHEAP = (nn.GroupNorm, nn.LayerNorm, LayerNorm2d, nn.GELU, nn.ReLU)


class FrugalSequential(nn.Sequential):
    """A :class:`torch.nn.Sequential` that keeps less for the backward pass.

    What norms and activations give is computed again there, both for themselves and for the layer
    behind them: of a convolution, a norm and an activation only the convolution's result is kept.
    Layers with hooks are called once, as always, and nothing is done where a checkpoint around all
    of it, or other hooks for saved tensors, decide what is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Passes the layers one after the other."""
        if not saves_memory(x) or _are_tensors_cared_for():
            return super().forward(x)
        cheap: list[nn.Module] = []
        for layer in self:
            if _is_cheap(layer, is_first=not cheap):
                cheap.append(layer)
            elif cheap:
                x = _behind(cheap, layer, x)
                cheap = []
            else:
                x = layer(x)
        return _checkpointed(nn.Sequential(*cheap), x) if cheap else x


class _Kept(NamedTuple):
    """A tensor that is kept, and how often it had been changed in place until then."""

    tensor: Tensor
    version: int

    def checked(self) -> Tensor:
        # Hooks for saved tensors switch PyTorch's own check off.
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that is needed for the backward "
                "pass has been modified by an inplace operation: change weights and inputs behind "
                "the backward pass, or copies of them"
            )
        return self.tensor


class _View(NamedTuple):
    """How a tensor lies in its storage."""

    size: Sequence[int]
    stride: Sequence[int]
    offset: int


def _is_cheap(layer: nn.Module, *, is_first: bool) -> bool:
    # In place, the first one would change what is kept.
    changes_input = is_first and isinstance(layer, nn.ReLU) and layer.inplace
    return type(layer) in _CHEAP and not changes_input and not has_hooks(layer)


def _are_tensors_cared_for() -> bool:
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _behind(cheap: Sequence[nn.Module], layer: nn.Module, x: Tensor) -> Tensor:
    """Calls a layer behind cheap ones whose result it does not keep."""
    source, state = _Kept(x.detach(), x._version), autocast_state(x.device)
    layers = nn.Sequential(*cheap)
    # Autocast would cast a copy for the convolution, which that would keep. (On CPUs, doubling
    # chooses its way by the type.)
    if state["enabled"] and (type(layer) is nn.Conv2d or _is_convolution_on_gpu(layer, x)):
        layers.append(_Cast(state["dtype"]))

    def compute() -> Tensor:
        with torch.no_grad(), restored_autocast(state):
            result: Tensor = layers(source.checked())
            return result

    prepared = _checkpointed(layers, x)
    with _not_kept(prepared, compute):
        return layer(prepared)


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Casts what autocast would."""
        return x if x.dtype == torch.float64 else x.to(self.dtype)


def _is_convolution_on_gpu(layer: nn.Module, x: Tensor) -> bool:
    return x.device.type != "cpu" and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)


def _checkpointed(layers: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = checkpoint(layers, x, use_reentrant=False, preserve_rng_state=False)
    return result


@contextlib.contextmanager
def _not_kept(tensor: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Keeps a tensor out of what autograd saves in a block.

    Args:
        tensor: What is used in the block.
        compute: Gives it again, in the same layout.
    """
    storage = tensor.untyped_storage()._cdata

    def pack(saved: Tensor) -> _Kept | _View:
        if saved.untyped_storage()._cdata != storage:
            # The tensor itself would refer to the graph that refers to it.
            return _Kept(saved.detach(), saved._version)
        return _View(saved.size(), saved.stride(), int(saved.storage_offset()))

    def unpack(kept: _Kept | _View) -> Tensor:
        return kept.checked() if isinstance(kept, _Kept) else compute().as_strided(*kept)

    with saved_tensors_hooks(pack, unpack):
        yield
