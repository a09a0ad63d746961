"""The function behind linear layers that keep less for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from piip_d2.ops.autocast import autocast_state, restored_autocast
from piip_d2.ops.linear import linear


def recomputing_linear(
    prepare: Callable[..., Tensor] | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    *parameters: Tensor | None,
) -> Tensor:
    """``linear(prepare(x, *parameters), weight, bias) * scale``, keeping no result on the way.

    Args:
        prepare: From ``x`` and ``parameters`` to (..., in_features); None for ``x`` itself.
        x: Its input.
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.
        scale: (out_features,), or None for none.
        *parameters: What else ``prepare`` takes, and is differentiated by.

    Returns:
        (..., out_features).
    """
    output: Tensor = _FrugalLinear.apply(prepare, x, weight, bias, scale, *parameters)
    return output


class _FrugalLinear(torch.autograd.Function):
    """``linear(prepare(x, *parameters)) * scale``, of which x and the weights are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        prepare: Callable[..., Tensor] | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        ctx.prepare = prepare
        ctx.autocast = autocast_state(x.device)
        ctx.save_for_backward(x, weight, None if scale is None else bias, scale, *parameters)
        prepared = x if prepare is None else prepare(x, *parameters)
        # The smaller of the two is scaled: the result, or the weights.
        ctx.scales_result = scale is not None and prepared.numel() < weight.shape[1] ** 2
        if scale is None:
            return linear(prepared, weight, bias)
        if ctx.scales_result:
            output = linear(prepared, weight, bias)
            # Not in place: selective recomputation keeps what products give.
            return (output * scale).to(output.dtype)
        return linear(prepared, weight * scale[:, None], None if bias is None else bias * scale)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, *parameters = ctx.saved_tensors
        _, need_x, *need_weights = ctx.needs_input_grad[:5]
        # Asked for a second derivative, all of this is differentiated itself.
        is_differentiated = torch.is_grad_enabled()
        sources = [x, *parameters]
        needs = [need_x, *ctx.needs_input_grad[5:]]
        if not is_differentiated:
            sources = [
                None if source is None else source.detach().requires_grad_(need)
                for source, need in zip(sources, needs, strict=True)
            ]
        with torch.enable_grad(), restored_autocast(ctx.autocast):
            prepared = x if ctx.prepare is None else ctx.prepare(*sources)
        by_weights = _weight_gradients(prepared, grad_output, weight, bias, scale, need_weights)
        by_sources: list[Tensor | None] = [None] * len(sources)
        if any(needs):
            by_prepared = _input_gradient(grad_output, weight, scale, ctx.scales_result)
            by_prepared = by_prepared.to(prepared.dtype)
            if ctx.prepare is None:
                by_sources = [by_prepared]
            else:
                wanted = [source for source, need in zip(sources, needs, strict=True) if need]
                found = iter(
                    torch.autograd.grad(
                        prepared, wanted, by_prepared, create_graph=is_differentiated
                    )
                )
                by_sources = [next(found) if need else None for need in needs]
        return None, by_sources[0], *by_weights, *by_sources[1:]


def _input_gradient(
    grad_output: Tensor, weight: Tensor, scale: Tensor | None, scales_result: bool
) -> Tensor:
    if scale is not None and scales_result:
        grad_output = (grad_output * scale).to(grad_output.dtype)
    elif scale is not None:
        weight = weight * scale[:, None]
    return linear(grad_output, weight.to(grad_output.dtype).t())


def _weight_gradients(
    prepared: Tensor,
    grad_output: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of weight, bias and scale, those that are needed."""
    need_weight, need_bias, need_scale = needs
    rows = grad_output.reshape(-1, weight.shape[0])
    by_weight = by_bias = by_scale = None
    if need_weight or need_scale:
        columns = prepared.reshape(-1, weight.shape[1])
        by_weight = (rows.t() @ columns.to(rows.dtype)).to(weight.dtype)
    if need_bias or (need_scale and bias is not None):
        by_bias = rows.sum(0).to(weight.dtype)
    if scale is not None:
        if need_scale and by_weight is not None:
            by_scale = (by_weight * weight).sum(1)
            if bias is not None and by_bias is not None:
                by_scale = by_scale + by_bias * bias
        by_weight = None if by_weight is None else by_weight * scale[:, None]
        by_bias = None if by_bias is None else by_bias * scale
    return [
        by_weight if need_weight else None,
        by_bias if need_bias else None,
        by_scale,
    ]
