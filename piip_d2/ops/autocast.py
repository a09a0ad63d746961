"""Where autocast must not lower the precision, or has to be as it was before."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Switches autocast off for a block, if it is on for this kind of device.

    Args:
        device: Where the block computes.

    Returns:
        What to put the block into.
    """
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def autocast_state(device: torch.device) -> dict[str, Any]:
    """What autocast is now, for :func:`restored_autocast`.

    Args:
        device: For which kind of device.

    Returns:
        Arguments of :class:`torch.autocast`.
    """
    is_there = torch.amp.is_autocast_available(device.type)
    return {
        "device_type": device.type if is_there else "cpu",
        "enabled": is_there and torch.is_autocast_enabled(device.type),
        "dtype": torch.get_autocast_dtype(device.type) if is_there else None,
    }


def restored_autocast(state: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Sets autocast as it was, to compute something again in the backward pass.

    Args:
        state: From :func:`autocast_state`.

    Returns:
        What to put the computation into.
    """
    # What would be cached are weights, and few are cast here.
    return torch.autocast(**state, cache_enabled=False)
