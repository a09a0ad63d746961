"""Whether somebody listens to the calls of a module."""

from __future__ import annotations

from torch import nn


def has_hooks(module: nn.Module) -> bool:
    """Whether something happens before or behind the calls of a module, as with spectral norm.

    Args:
        module: What is called; its parts are not asked.

    Returns:
        False if to use its weights instead is the same.
    """
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )
