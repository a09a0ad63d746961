"""Shapes and derivatives of the compiled operators, for PyTorch's dispatcher.

The operators and their arguments are defined in ``csrc/library.cpp``. The second derivative is
that of the reference; it is itself differentiable.

PyTorch does not let ``torch.func.grad`` through operators that are registered like this, though
``torch.vmap`` and ``torch.autograd.grad(..., is_grads_batched=True)``. The reference has no such
limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from piip_d2.ops.reference import (
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

Gradients = tuple[Tensor | None, ...]


def register_kernels() -> None:
    """Registers what works on no numbers (fake kernels), and the derivatives."""
    for name, fake in (
        ("ms_deform_attn", _fake_forward),
        ("ms_deform_attn_backward", _fake_plain_backward),
        ("ms_deform_attn_fused", _fake_forward),
        ("ms_deform_attn_fused_backward", _fake_fused_backward),
    ):
        torch.library.register_fake(f"piip_d2::{name}", fake)
    for name, backward, setup_context in (
        ("ms_deform_attn", _plain_backward, _save_plain),
        ("ms_deform_attn_backward", _plain_double_backward, _save_plain_backward),
        ("ms_deform_attn_fused", _fused_backward, _save_fused),
        ("ms_deform_attn_fused_backward", _fused_double_backward, _save_fused_backward),
    ):
        torch.library.register_autograd(f"piip_d2::{name}", backward, setup_context=setup_context)


def level_shapes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """``[H0, W0, H1, W1, ...]``, as the operators take it, to pairs."""
    return list(zip(sizes[::2], sizes[1::2], strict=True))


def fused_reference(
    value: Tensor,
    sizes: Sequence[int],
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor | None,
    query_grid: Sequence[int],
) -> Tensor:
    """The reference of the fused operator, with the operator's own arguments."""
    return ms_deform_attn_fused_reference(
        value,
        level_shapes(sizes),
        offsets,
        logits,
        reference_points=reference_points,
        query_grid=(query_grid[0], query_grid[1]) if query_grid else None,
    )


def _fake_forward(value: Tensor, sizes: Sequence[int], points: Tensor, *others: object) -> Tensor:
    batch, _, heads, width = value.shape
    return value.new_empty((batch, points.shape[1], heads * width))


def _fake_plain_backward(
    grad_output: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
    need_value: bool,
    need_locations: bool,
    need_weights: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _fake_gradient(value, need_value),
        _fake_gradient(locations, need_locations),
        _fake_gradient(weights, need_weights),
    )


def _fake_fused_backward(
    grad_output: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    offsets: Tensor,
    logits: Tensor,
    reference_points: Tensor | None,
    query_grid: Sequence[int],
    need_value: bool,
    need_offsets: bool,
    need_logits: bool,
    need_reference: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = value if reference_points is None else reference_points
    per_head = (*offsets.shape[:4], like.shape[3]) if need_reference else (0,)
    return (
        _fake_gradient(value, need_value),
        _fake_gradient(offsets, need_offsets),
        _fake_gradient(logits, need_logits),
        like.new_empty(per_head),
    )


def _fake_gradient(tensor: Tensor, needed: bool) -> Tensor:
    return tensor.new_empty(tensor.shape if needed else (0,))


def _save_plain(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _plain_backward(ctx: Any, grad_output: Tensor) -> Gradients:
    value, locations, weights = ctx.saved_tensors
    need_value, _, need_locations, need_weights = ctx.needs_input_grad
    needs = (need_value, need_locations, need_weights)
    gradients = torch.ops.piip_d2.ms_deform_attn_backward.default(
        grad_output,
        value,
        ctx.sizes,
        locations,
        weights,
        *needs,
        torch.are_deterministic_algorithms_enabled(),
    )
    grad_value, grad_locations, grad_weights = _only(needs, gradients)
    return grad_value, None, grad_locations, grad_weights


def _save_fused(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, offsets, logits, reference_points, ctx.query_grid = inputs
    ctx.save_for_backward(value, offsets, logits, reference_points)


def _fused_backward(ctx: Any, grad_output: Tensor) -> Gradients:
    value, offsets, logits, reference_points = ctx.saved_tensors
    need_value, _, *need_others, _ = ctx.needs_input_grad
    needs = (need_value, *need_others)
    gradients = torch.ops.piip_d2.ms_deform_attn_fused_backward.default(
        grad_output,
        value,
        ctx.sizes,
        offsets,
        logits,
        reference_points,
        ctx.query_grid,
        *needs,
        torch.are_deterministic_algorithms_enabled(),
    )
    grad_value, grad_offsets, grad_logits, per_head = _only(needs, gradients)
    grad_reference = None
    if per_head is not None and reference_points is not None:
        grad_reference = _join_heads(per_head, reference_points)
    return grad_value, None, grad_offsets, grad_logits, grad_reference, None


def _join_heads(per_head: Tensor, reference_points: Tensor) -> Tensor:
    """(B, Q, M, L, R) to the shape of the reference points, of which B and L may be 1."""
    return per_head.sum(dim=2).sum_to_size(reference_points.shape)


def _save_plain_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_output, value, ctx.sizes, locations, weights, *ctx.needs, _ = inputs
    ctx.save_for_backward(grad_output, value, locations, weights)
    ctx.set_materialize_grads(False)


def _plain_double_backward(ctx: Any, *cotangents: Tensor | None) -> Gradients:
    grad_output, *inputs = ctx.saved_tensors

    def reference(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_reference(value, level_shapes(ctx.sizes), locations, weights)

    for_grad_output, (value, locations, weights) = _differentiate_backward(
        reference, grad_output, inputs, _only(ctx.needs, cotangents)
    )
    needs = [ctx.needs_input_grad[index] for index in (0, 1, 3, 4)]
    gradients = _only(needs, (for_grad_output, value, locations, weights))
    return (*gradients[:2], None, *gradients[2:], None, None, None, None)


def _save_fused_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_output, value, ctx.sizes, offsets, logits, points, ctx.query_grid, *needs, _ = inputs
    ctx.needs = needs
    ctx.save_for_backward(grad_output, value, offsets, logits, points)
    ctx.set_materialize_grads(False)


def _fused_double_backward(ctx: Any, *cotangents: Tensor | None) -> Gradients:
    grad_output, value, offsets, logits, reference_points = ctx.saved_tensors
    inputs = [value, offsets, logits]
    if reference_points is not None:
        # The operator gives the gradient of each head, level and image by itself.
        per_head = reference_points[:, :, None].expand(*offsets.shape[:4], -1)
        inputs.append(per_head)

    def reference(value: Tensor, offsets: Tensor, logits: Tensor, *points: Tensor) -> Tensor:
        return fused_reference(
            value, ctx.sizes, offsets, logits, points[0] if points else None, ctx.query_grid
        )

    for_grad_output, gradients = _differentiate_backward(
        reference, grad_output, inputs, _only(ctx.needs, cotangents)
    )
    for_reference = None
    if reference_points is not None:
        for_reference = _join_heads(gradients[3], reference_points)
    needs = [ctx.needs_input_grad[index] for index in (0, 1, 3, 4, 5)]
    results = _only(needs, (for_grad_output, *gradients[:3], for_reference))
    return (*results[:2], None, *results[2:], None, None, None, None, None, None)


def _differentiate_backward(
    reference: Callable[..., Tensor],
    grad_output: Tensor,
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Vector-Jacobian product of the gradients: that for ``grad_output``, those for ``inputs``."""

    def backward(grad_output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        pullback = torch.func.vjp(reference, *inputs)[1]
        return pullback(grad_output)

    pullback = torch.func.vjp(backward, grad_output, *inputs)[1]
    filled = tuple(
        torch.zeros_like(tensor) if cotangent is None else cotangent
        for tensor, cotangent in zip(inputs, cotangents, strict=False)
    )
    for_grad_output, *for_inputs = pullback(filled)
    return for_grad_output, tuple(for_inputs)


def _only(needs: Sequence[bool], gradients: Sequence[Any]) -> list[Any]:
    """None in place of what was not asked for."""
    return [gradient if need else None for need, gradient in zip(needs, gradients, strict=True)]
