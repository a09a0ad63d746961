"""Linear layers that keep less for the backward pass.

PyTorch keeps the input of every linear layer. Where that is a norm or an activation of something
that is kept as well, it is cheap to compute again. A factor behind the layer needs the layer's
result for its gradient, but not if it is taken into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.ops.linear import is_transformed, linear, linear_gelu

# Elements of an input from which the memory is worth the time of a few more calls.
_MIN_ELEMENTS = 1 << 16


def saves_memory(x: Tensor) -> bool:
    """Whether the functions below keep less for the backward pass of an input than plain layers.

    Where they do not, modules can be called one by one, so that hooks see all of them.

    Args:
        x: The input.

    Returns:
        Whether it is large enough, is differentiated, and nothing else takes care of memory.
    """
    # Compilers decide themselves what to compute again.
    return (
        torch.is_grad_enabled()
        and x.requires_grad
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_transformed()
        and x.numel() >= _MIN_ELEMENTS
    )


def norm_linear(x: Tensor, norm: nn.Module, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer behind a norm.

    Args:
        x: (..., in_features).
        norm: Maps it to the same shape. The result of a layer norm is not kept, that of any other
            module is.
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.

    Returns:
        (..., out_features).
    """
    if type(norm) is not nn.LayerNorm or not saves_memory(x):
        return linear(norm(x), weight, bias)
    parameters = [tensor for tensor in (norm.weight, norm.bias) if tensor is not None]
    prepare = partial(_layer_norm, norm.normalized_shape, norm.eps)
    return _apply(prepare, x, weight, bias, None, *parameters)


def norm_linears(
    x: Tensor, norm: nn.Module, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> list[Tensor]:
    """Several linear layers behind one norm.

    Args:
        x: (..., in_features).
        norm: See :func:`norm_linear`.
        weights: One (out_features, in_features) per layer.
        biases: One (out_features,) per layer.

    Returns:
        One (..., out_features) per layer.
    """
    if type(norm) is not nn.LayerNorm or not saves_memory(x):
        x = norm(x)
        return [linear(x, *layer) for layer in zip(weights, biases, strict=True)]
    joined = norm_linear(x, norm, torch.cat(list(weights)), torch.cat(list(biases)))
    return list(joined.split([weight.shape[0] for weight in weights], dim=-1))


def gelu_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    approximate: str = "none",
    scale: Tensor | None = None,
) -> Tensor:
    """A linear layer behind a GELU, whose result is not kept.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.
        approximate: ``"none"`` or ``"tanh"``, see :class:`torch.nn.GELU`.
        scale: (out_features,), factors of the result; None for none.

    Returns:
        (..., out_features).
    """
    if not saves_memory(x):
        return scaled_linear(F.gelu(x, approximate=approximate), weight, bias, scale)
    return _apply_and_scale(partial(F.gelu, approximate=approximate), x, weight, bias, scale)


def scaled_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """A linear layer and a factor per channel behind it; the result of the layer is not kept.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.
        scale: (out_features,), or None for none.

    Returns:
        (..., out_features).
    """
    if scale is None:
        return linear(x, weight, bias)
    if not saves_memory(x):
        return linear(x, weight, bias) * scale
    return _apply_and_scale(None, x, weight, bias, scale)


def mlp(
    x: Tensor,
    hidden_layer: tuple[Tensor, Tensor | None],
    output_layer: tuple[Tensor, Tensor | None],
    *,
    approximate: str,
    norm: nn.Module | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Two linear layers and a GELU between them.

    Args:
        x: (..., in_features).
        hidden_layer: Weight and bias of the layer before the GELU.
        output_layer: Weight and bias of the layer behind it.
        approximate: See :func:`gelu_linear`.
        norm: What comes before, see :func:`norm_linear`; None for nothing.
        scale: See :func:`gelu_linear`.

    Returns:
        (..., out_features).
    """
    if not torch.is_grad_enabled():
        x = x if norm is None else norm(x)
        hidden = linear_gelu(x, *hidden_layer, approximate=approximate)
        return scaled_linear(hidden, *output_layer, scale)
    hidden = linear(x, *hidden_layer) if norm is None else norm_linear(x, norm, *hidden_layer)
    return gelu_linear(hidden, *output_layer, approximate=approximate, scale=scale)


def _apply_and_scale(
    prepare: Callable[..., Tensor] | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
) -> Tensor:
    # Scaled weights take more than the result where they are larger.
    if scale is None or x.numel() < weight.shape[1] ** 2:
        output = _apply(prepare, x, weight, bias, None)
        return output if scale is None else output * scale
    output = _apply(prepare, x, weight, bias, scale)
    # Under autocast, factors in 32 bits give results in 32 bits.
    return output.to(torch.promote_types(output.dtype, scale.dtype))


def _apply(
    prepare: Callable[..., Tensor] | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    *parameters: Tensor,
) -> Tensor:
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
        *parameters: Tensor,
    ) -> Tensor:
        ctx.prepare = prepare
        ctx.autocast = _autocast_state(x.device.type)
        ctx.save_for_backward(x, weight, None if scale is None else bias, scale, *parameters)
        prepared = x if prepare is None else prepare(x, *parameters)
        if scale is not None:
            weight = weight * scale[:, None]
            bias = None if bias is None else bias * scale
        return linear(prepared, weight, bias)

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
                source.detach().requires_grad_(need)
                for source, need in zip(sources, needs, strict=True)
            ]
        with torch.enable_grad(), _autocast(ctx.autocast):
            prepared = x if ctx.prepare is None else ctx.prepare(*sources)
        by_weights = _weight_gradients(prepared, grad_output, weight, bias, scale, need_weights)
        by_sources: list[Tensor | None] = [None] * len(sources)
        if any(needs):
            scaled = weight if scale is None else weight * scale[:, None]
            by_prepared = linear(grad_output, scaled.to(grad_output.dtype).t()).to(prepared.dtype)
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


def _layer_norm(
    shape: Sequence[int],
    eps: float,
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    return F.layer_norm(x, list(shape), weight, bias, eps)


def _autocast_state(device_type: str) -> dict[str, Any]:
    is_there = torch.amp.is_autocast_available(device_type)
    return {
        "device_type": device_type if is_there else "cpu",
        "enabled": is_there and torch.is_autocast_enabled(device_type),
        "dtype": torch.get_autocast_dtype(device_type) if is_there else None,
    }


def _autocast(state: dict[str, Any]) -> Any:
    # What would be cached are weights, and none are cast here.
    return torch.autocast(**state, cache_enabled=False)
