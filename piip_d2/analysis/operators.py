"""What single operators cost, in the form fvcore takes.

Costs are those of fvcore (https://github.com/facebookresearch/fvcore), which counts a multiply-add
as one operation and gives norms 5 operations for every number; the rest is added here. Activations,
softmax, sums of maps and scales, copies and casts cost nothing, as in fvcore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from fvcore.nn import jit_handles
from torch import Tensor

Handle = Callable[[Sequence[Any], Sequence[Any]], Any]

# Interpolation weighs this many pixels for every one it makes; fvcore says 4 for the bilinear one.
_BICUBIC_TAPS = 16


def fvcore_handles() -> dict[str, Handle]:
    """Handlers for the operators of our networks that fvcore does not know.

    Returns:
        By the names of operators in a traced graph:
        ``FlopCountAnalysis(network, images).set_op_handle(**fvcore_handles())``.
    """
    return {
        "aten::scaled_dot_product_attention": _attention,
        "aten::upsample_bicubic2d": jit_handles.elementwise_flop_counter(0, _BICUBIC_TAPS),
        "aten::max_pool2d": _max_pool,
        "aten::rms_norm": _rms_norm,
        "piip_d2::ms_deform_attn": _deformable_attention,
        "piip_d2::ms_deform_attn_fused": _deformable_attention,
    }


def sampling_flops(sampled: int) -> int:
    """Operations of deformable sampling.

    Args:
        sampled: How many numbers are sampled. Each is a sum of four products, and one more
            product weighs it.

    Returns:
        Multiply-adds.
    """
    return 5 * sampled


def fvcore_norm_flops(elements: int) -> int:
    """Operations of a norm with weights, as fvcore estimates them.

    Args:
        elements: How many numbers are normalised.

    Returns:
        Operations.
    """
    return 5 * elements


def operator_flops(operator: Any, args: Sequence[Any], output: Any) -> int:
    """Counts one call of an operator.

    Args:
        operator: An overload of an ``aten`` operator, as a dispatch mode sees it.
        args: Its positional arguments.
        output: What it returned.

    Returns:
        Multiply-adds; 0 for operators that cost nothing.
    """
    handle = _HANDLES.get(operator.overloadpacket)
    if handle is None:
        return 0
    outputs = output if isinstance(output, tuple) else (output,)
    counted = handle([_Value(arg) for arg in args], [_Value(out) for out in outputs])
    # fvcore gives convolutions back under a name.
    return int(sum(counted.values()) if isinstance(counted, Mapping) else counted)


def is_attention_product(operator: Any) -> bool:
    """Tells whether an operator multiplies matrices of features with each other."""
    return operator.overloadpacket in _ATTENTION_PRODUCTS


class _Value:
    """An argument of an operator in the place of a value of a traced graph."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def isCompleteTensor(self) -> bool:  # noqa: N802 - called by fvcore
        return isinstance(self._content, Tensor)

    def type(self) -> _Value:
        return self

    def sizes(self) -> list[int]:
        return list(self._content.shape)

    def toIValue(self) -> Any:  # noqa: N802 - called by fvcore
        return self._content


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Products of queries (..., N, D) with keys (..., S, D), and of weights with values."""
    query, key, value = (jit_handles.get_shape(x) for x in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _deformable_attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    batch, _, heads, head_width = jit_handles.get_shape(inputs[0])
    _, queries, _, levels, points, _ = jit_handles.get_shape(inputs[2])
    return sampling_flops(batch * queries * heads * levels * points * head_width)


def _rms_norm(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return fvcore_norm_flops(prod(jit_handles.get_shape(inputs[0])))


def _max_pool(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return prod(jit_handles.get_shape(inputs[0]))


def _convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    shapes = [jit_handles.get_shape(x) for x in (*inputs[:2], outputs[0])]
    return jit_handles.conv_flop_count(*shapes, transposed=inputs[6].toIValue())


_aten = torch.ops.aten
_ATTENTION_PRODUCTS = {_aten.bmm, _aten.baddbmm}
_HANDLES: dict[Any, Handle] = {
    _aten.addmm: jit_handles.addmm_flop_jit,
    _aten.bmm: jit_handles.bmm_flop_jit,
    _aten.mm: jit_handles.matmul_flop_jit,
    _aten.convolution: _convolution,
    _aten.native_layer_norm: jit_handles.norm_flop_counter(2),
    _aten.native_group_norm: jit_handles.norm_flop_counter(1),
    _aten.upsample_bilinear2d: jit_handles.elementwise_flop_counter(0, 4),
    _aten.upsample_bicubic2d: jit_handles.elementwise_flop_counter(0, _BICUBIC_TAPS),
    _aten.upsample_nearest2d: jit_handles.elementwise_flop_counter(0, 1),
    _aten.max_pool2d_with_indices: _max_pool,
}
