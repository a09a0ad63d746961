"""Where autocast must not lower the precision."""

from __future__ import annotations

import contextlib

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
