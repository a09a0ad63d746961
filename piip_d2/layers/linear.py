"""The linear layer of all other layers."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.layers.module_hooks import has_hooks
from piip_d2.ops import norm_linear, scaled_linear


class Linear(nn.Linear):
    """PyTorch's linear layer on the fastest path, see :func:`piip_d2.ops.linear`."""

    def forward(
        self,
        x: Tensor,
        *,
        projection: nn.Linear | None = None,
        norm: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Maps (..., in_features) to (..., out_features).

        Args:
            x: The input.
            projection: What it passes before the norm, see :func:`piip_d2.ops.norm_linear`; None
                for nothing.
            norm: What it passes then, see there; None for nothing, and no ``projection``.
            scale: Factors of the result, see :func:`piip_d2.ops.scaled_linear`; None for none. Not
                together with ``norm``.

        Returns:
            The output.
        """
        if norm is not None:
            first = None if projection is None else (projection.weight, projection.bias)
            return norm_linear(x, norm, self.weight, self.bias, projection=first)
        return scaled_linear(x, self.weight, self.bias, scale)


def call_linear(
    layer: nn.Module,
    x: Tensor,
    *,
    projection: nn.Module | None = None,
    norm: nn.Module | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Calls a linear layer, or what a user has put in its place.

    Args:
        layer: From (..., in_features) to (..., out_features); only :class:`Linear` itself is asked
            to take in what is around it.
        x: The input.
        projection: What it passes first, only taken in if it is :class:`Linear` itself without
            hooks and there is a norm; None for nothing.
        norm: What it passes then; None for nothing.
        scale: (out_features,), factors of the result; None for none. Not together with ``norm``.

    Returns:
        The output.
    """
    takes_in = type(layer) is Linear
    takes_projection = takes_in and norm is not None and is_plain_linear(projection)
    if projection is not None and not takes_projection:
        x, projection = projection(x), None
    if takes_in:
        return layer(x, projection=projection, norm=norm, scale=scale)
    x = layer(x if norm is None else norm(x))
    return x if scale is None else x * scale


def is_plain_linear(layer: nn.Module | None) -> bool:
    """Whether to use a layer's weights is the same as to call it.

    Args:
        layer: Any module, or None.

    Returns:
        Whether it is :class:`Linear` itself, without hooks.
    """
    return type(layer) is Linear and not has_hooks(layer)
