"""Linear layers on CPUs by oneDNN.

PyTorch gives products of float32 matrices to the BLAS library it was built with, which is slow for
the thin matrices of small branches and on some processors, though it has a second library aboard,
oneDNN, which is not. In 16 bits it takes oneDNN by itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

_HAS_ONEDNN = torch.backends.mkldnn.is_available()
# Processors without AVX-512 have no such products in oneDNN.
_HAS_BFLOAT16 = _HAS_ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
# Multiply-adds below which an operator of one's own takes longer to call than the other to compute.
_MIN_PRODUCTS = 1 << 24


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The function of :class:`torch.nn.Linear`, of the same values up to rounding.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.

    Returns:
        (..., out_features).
    """
    if x.dtype == torch.float32 and _takes_onednn(x, weight):
        return torch.ops.piip_d2.linear.default(x, weight, bias)
    return F.linear(x, weight, bias)


def linear_gelu(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, approximate: str = "none"
) -> Tensor:
    """:func:`linear` and a GELU behind it, in one pass over the result where that is possible.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.
        approximate: ``"none"`` or ``"tanh"``, see :class:`torch.nn.GELU`.

    Returns:
        (..., out_features).
    """
    # The backward pass needs what the GELU gets.
    if not torch.is_grad_enabled() and _takes_onednn(x, weight):
        return torch.ops.piip_d2.linear_gelu.default(x, weight, bias, approximate)
    return F.gelu(linear(x, weight, bias), approximate=approximate)


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or forward-mode differentiation is at work.

    Operators with a registered derivative go through neither.
    """
    if torch.compiler.is_compiling():
        return False
    level = torch._C._functorch.maybe_current_level()
    return level is not None or forward_ad._current_level >= 0


def _takes_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and (
            (x.dtype == torch.float32 and _HAS_ONEDNN)
            or (x.dtype == torch.bfloat16 and _HAS_BFLOAT16)
        )
        and not torch.is_autocast_enabled("cpu")
        # Programs for other runtimes need PyTorch's own operators.
        and not torch.compiler.is_exporting()
        and not torch.jit.is_tracing()
        and not is_transformed()
        and (torch.compiler.is_compiling() or _is_worth_a_call(x, weight))
    )


def _is_worth_a_call(x: Tensor, weight: Tensor) -> bool:
    # A compiled graph is to hold for all sizes, so this is asked outside of compilers alone.
    return x.numel() * weight.shape[0] >= _MIN_PRODUCTS and torch._C._get_mkldnn_enabled()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _pointwise(x, weight, bias, "none", "")


def _onednn_gelu(x: Tensor, weight: Tensor, bias: Tensor | None, approximate: str) -> Tensor:
    return _pointwise(x, weight, bias, "gelu", approximate)


def _pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, algorithm: str
) -> Tensor:
    if x.numel() == 0:
        return x.new_zeros((*x.shape[:-1], weight.shape[0]))
    # What PyTorch's own compiler makes of a linear layer.
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, activation, [], algorithm)


def _fake(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    need_x, need_weight, need_bias = ctx.needs_input_grad
    # Also one single row is a matrix.
    rows = grad_output.reshape(-1, weight.shape[0])
    return (
        linear(grad_output, weight.t()) if need_x else None,
        # Long and thin matrices, for which BLAS is the better.
        rows.t() @ x.reshape(-1, weight.shape[1]) if need_weight else None,
        rows.sum(0) if need_bias else None,
    )


def _count(input_shape: Any, weight_shape: Any, *_: Any, **__: Any) -> int:
    """Operations, for PyTorch's own counter."""
    count = 2 * weight_shape[0]
    for size in input_shape:
        count *= size
    return count


_library = torch.library.Library("piip_d2", "FRAGMENT")
_library.define("linear(Tensor input, Tensor weight, Tensor? bias) -> Tensor")
_library.define("linear_gelu(Tensor input, Tensor weight, Tensor? bias, str approximate) -> Tensor")
_library.impl("linear", _onednn, "CPU")
_library.impl("linear_gelu", _onednn_gelu, "CPU")
for _name in ("piip_d2::linear", "piip_d2::linear_gelu"):
    torch.library.register_fake(_name, _fake)
torch.library.register_autograd("piip_d2::linear", _backward, setup_context=_save)
register_flop_formula([torch.ops.piip_d2.linear, torch.ops.piip_d2.linear_gelu])(_count)
