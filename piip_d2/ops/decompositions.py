"""The compiled operators in terms of PyTorch's own, for exporters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from piip_d2.ops._extension import has_extension
from piip_d2.ops._registration import fused_reference, level_shapes
from piip_d2.ops.reference import ms_deform_attn_reference


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Plain PyTorch for the operators, as ``ExportedProgram.run_decompositions`` takes it.

    For what runs elsewhere than in PyTorch, such as ONNX. Without the compiled operators an
    exported program holds none of them, and the result is empty.
    """
    if not has_extension():
        return {}
    return {
        torch.ops.piip_d2.ms_deform_attn.default: _plain,
        torch.ops.piip_d2.ms_deform_attn_fused.default: fused_reference,
    }


def _plain(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return ms_deform_attn_reference(value, level_shapes(sizes), locations, weights)
