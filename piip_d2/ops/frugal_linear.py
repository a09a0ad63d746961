"""Linear layers that keep less for the backward pass.

PyTorch keeps the input of every linear layer. Where that is a norm or an activation of something
that is kept as well, it is cheap to compute again. A factor behind the layer needs the layer's
result for its gradient, but not if it is taken into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.ops._frugal_function import recomputing_linear
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


def norm_linear(
    x: Tensor,
    norm: nn.Module,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    projection: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """A linear layer behind a norm.

    Args:
        x: (..., in_features), or what ``projection`` makes it of.
        norm: Maps it to the same shape. The result of a layer norm is not kept, that of any other
            module is.
        weight: (out_features, in_features).
        bias: (out_features,), or None for none.
        projection: Weight and bias of a linear layer before the norm, whose result is not kept
            where the norm's is not; None for none.

    Returns:
        (..., out_features).
    """
    if type(norm) is not nn.LayerNorm or not saves_memory(x):
        x = x if projection is None else linear(x, *projection)
        return linear(norm(x), weight, bias)
    prepare = partial(_prepare, norm.normalized_shape, norm.eps)
    parameters = (norm.weight, norm.bias, *(projection or (None, None)))
    return recomputing_linear(prepare, x, weight, bias, None, *parameters)


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
    output = recomputing_linear(prepare, x, weight, bias, scale)
    # Under autocast, factors in 32 bits give results in 32 bits.
    return output if scale is None else output.to(torch.promote_types(output.dtype, scale.dtype))


def _prepare(
    shape: Sequence[int],
    eps: float,
    x: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    x = x if weight is None else linear(x, weight, bias)
    return F.layer_norm(x, list(shape), norm_weight, norm_bias, eps)
