"""Knows whether the compiled operators are loaded."""

from __future__ import annotations

import torch


def has_extension() -> bool:
    """Tells whether the compiled ``piip_d2`` operators are registered in PyTorch.

    Without them every operator runs on its plain PyTorch reference, with the same results.
    """
    return hasattr(torch.ops.piip_d2, "ms_deform_attn")
