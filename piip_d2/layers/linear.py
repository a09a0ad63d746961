"""The linear layer of all other layers."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.ops import norm_linear, scaled_linear


class Linear(nn.Linear):
    """PyTorch's linear layer on the fastest path, see :func:`piip_d2.ops.linear`."""

    def forward(
        self, x: Tensor, *, norm: nn.Module | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Maps (..., in_features) to (..., out_features).

        Args:
            x: The input.
            norm: What it passes first, see :func:`piip_d2.ops.norm_linear`; None for nothing.
            scale: Factors of the result, see :func:`piip_d2.ops.scaled_linear`; None for none. Not
                together with ``norm``.

        Returns:
            The output.
        """
        if norm is not None:
            return norm_linear(x, norm, self.weight, self.bias)
        return scaled_linear(x, self.weight, self.bias, scale)


def call_linear(
    layer: nn.Module, x: Tensor, *, norm: nn.Module | None = None, scale: Tensor | None = None
) -> Tensor:
    """Calls a linear layer, or what a user has put in its place.

    Args:
        layer: From (..., in_features) to (..., out_features); only :class:`Linear` itself is asked
            to take in ``norm`` and ``scale``.
        x: The input.
        norm: What it passes first; None for nothing.
        scale: (out_features,), factors of the result; None for none. Not together with ``norm``.

    Returns:
        The output.
    """
    if type(layer) is Linear:
        return layer(x, norm=norm, scale=scale)
    x = layer(x if norm is None else norm(x))
    return x if scale is None else x * scale
