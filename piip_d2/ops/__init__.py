"""Operators, as functions on tensors. Needs PyTorch alone."""

from piip_d2.ops._extension import has_extension
from piip_d2.ops.ms_deform_attn import ms_deform_attn

__all__ = ["has_extension", "ms_deform_attn"]
