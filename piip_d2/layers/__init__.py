"""Building blocks without detection and without branches. Needs PyTorch alone.

Shape letters used throughout the package: ``B`` batch, ``C`` channels, ``H W`` height and width
of a feature map, ``Q`` queries, ``S`` the sum of ``H * W`` over all levels, ``M`` heads, ``D``
channels of a head, ``L`` levels, ``P`` sampling points. A feature map is ``(B, H, W, C)`` inside a
branch and an interaction, and ``(B, C, H, W)`` everywhere else.
"""

from piip_d2.layers.conv_ffn import ConvFFN
from piip_d2.layers.cross_attention import CrossAttention, DeformableCrossAttention
from piip_d2.layers.linear import Linear
from piip_d2.layers.mlp import Mlp
from piip_d2.layers.ms_deform_attn import MSDeformAttn
from piip_d2.layers.reference_points import make_reference_points
from piip_d2.layers.relative_position_attention import RelativePositionAttention
from piip_d2.layers.rms_norm import RMSNorm
from piip_d2.layers.window_attention import WindowAttention

__all__ = [
    "ConvFFN",
    "CrossAttention",
    "DeformableCrossAttention",
    "Linear",
    "MSDeformAttn",
    "Mlp",
    "RMSNorm",
    "RelativePositionAttention",
    "WindowAttention",
    "make_reference_points",
]
