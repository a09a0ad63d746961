"""Transposed convolutions that double a map, in training on CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.ops.linear import is_transformed, linear

# Elements of the result that are computed at once; more would need memory for a copy of them.
_CHUNK_ELEMENTS = 1 << 22


def doubling(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution of kernel and stride 2.

    Its patches do not overlap, so that it is one matrix product. For training in float32 on CPUs it
    is computed as that, since PyTorch is slow there in the backward pass.

    Args:
        x: (B, C, H, W).
        weight: (C, D, 2, 2).
        bias: (D,).

    Returns:
        (B, D, 2H, 2W), channels last in memory if ``x`` is.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.is_grad_enabled():
        return F.conv_transpose2d(x, weight, bias, stride=2)
    is_lasting = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()
    if is_lasting or torch.is_autocast_enabled("cpu"):
        return _doubling_at_once(x, weight, bias)
    output: Tensor = _Doubling.apply(x, weight, bias)
    return output


def _doubling_at_once(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    rows = [linear(x.permute(0, 2, 3, 1), kernel, bias.repeat(2)) for kernel in _kernels(weight)]
    cells = torch.stack(rows, dim=2).unflatten(-1, (2, -1))
    return cells.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class _Doubling(torch.autograd.Function):
    """The same without any copy of the result or of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        x = x.permute(0, 2, 3, 1)
        # Rows, rows of the kernel, cells, columns of the kernel.
        output = x.new_empty((*x.shape[:2], 2, x.shape[2], 2, weight.shape[1]))
        kernels = _kernels(weight)
        for chunk in _chunks(output):
            for row, kernel in enumerate(kernels):
                result = linear(x[:, chunk], kernel, bias.repeat(2))
                output[:, chunk, row] = result.unflatten(-1, (2, -1))
        return output.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For second derivatives.
            output = F.conv_transpose2d(x, weight, bias, stride=2)
            inputs = (x, weight, bias)
            wanted = [
                tensor for tensor, need in zip(inputs, ctx.needs_input_grad, strict=True) if need
            ]
            found = iter(torch.autograd.grad(output, wanted, grad_output, create_graph=True))
            return tuple(next(found) if need else None for need in ctx.needs_input_grad)
        return _gradients(x, weight, grad_output, ctx.needs_input_grad)


def _gradients(
    x: Tensor, weight: Tensor, grad_output: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias, those that are needed."""
    need_x, need_weight, need_bias = needs
    x = x.permute(0, 2, 3, 1)
    grad_output = grad_output.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    kernels = _kernels(weight)
    by_x = x.new_empty(x.shape) if need_x else None
    by_kernels = [torch.zeros_like(kernel) for kernel in kernels] if need_weight else []
    by_bias = x.new_zeros(weight.shape[1]) if need_bias else None
    for chunk in _chunks(grad_output):
        for row, kernel in enumerate(kernels):
            grad = grad_output[:, chunk, row].flatten(3, 4)
            if by_x is not None:
                by_cells = linear(grad, kernel.t())
                by_x[:, chunk] = by_cells if row == 0 else by_cells + by_x[:, chunk]
            rows = grad.reshape(-1, kernel.shape[0])
            if need_weight:
                by_kernels[row].addmm_(rows.t(), x[:, chunk].reshape(-1, x.shape[-1]))
            if by_bias is not None:
                by_bias += rows.sum(0).unflatten(0, (2, -1)).sum(0)
    by_weight = None
    if need_weight:
        by_weight = torch.stack(by_kernels).unflatten(1, (2, -1)).permute(3, 2, 0, 1)
    return None if by_x is None else by_x.permute(0, 3, 1, 2), by_weight, by_bias


def _kernels(weight: Tensor) -> list[Tensor]:
    """(C, D, 2, 2) to one matrix (2 * D, C) per row of the kernel."""
    return [kernel.flatten(0, 1) for kernel in weight.permute(2, 3, 1, 0)]


def _chunks(cells: Tensor) -> Iterator[slice]:
    """Ranges of rows of (B, H, 2, W, 2, D), none of more elements than wanted if possible."""
    height = cells.shape[1]
    per_row = cells[:, :1].numel()
    step = max(1, _CHUNK_ELEMENTS // max(1, per_row))
    for start in range(0, height, step):
        yield slice(start, start + step)
