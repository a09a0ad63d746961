"""Operators, as functions on tensors. Needs PyTorch alone."""

from piip_d2.ops._extension import has_extension
from piip_d2.ops._registration import register_kernels
from piip_d2.ops._transforms import register_transforms
from piip_d2.ops.attention import attention
from piip_d2.ops.decompositions import decompositions
from piip_d2.ops.doubling import doubling
from piip_d2.ops.frugal_linear import (
    gelu_linear,
    mlp,
    norm_linear,
    norm_linears,
    saves_memory,
    scaled_linear,
)
from piip_d2.ops.fused import ms_deform_attn_fused
from piip_d2.ops.linear import linear, linear_gelu
from piip_d2.ops.ms_deform_attn import ms_deform_attn

__all__ = [
    "attention",
    "decompositions",
    "doubling",
    "gelu_linear",
    "has_extension",
    "linear",
    "linear_gelu",
    "mlp",
    "ms_deform_attn",
    "ms_deform_attn_fused",
    "norm_linear",
    "norm_linears",
    "saves_memory",
    "scaled_linear",
]

if has_extension():
    register_kernels()
    register_transforms()
