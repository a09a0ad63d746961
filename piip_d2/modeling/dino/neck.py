"""Brings the maps of a backbone to one width and adds coarser ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from piip_d2.ops.autocast import without_autocast


class ProjectedMap(nn.Module):
    """A convolution and a group norm.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        num_groups: Groups of the norm; divides ``out_channels``.
        stride: 1 keeps the size, with a 1x1 convolution; 2 halves it, with a 3x3 one.
        bias: Whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_groups: int,
        *,
        stride: int,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, 2 * stride - 1, stride, padding=stride - 1, bias=bias
        )
        self.norm = nn.GroupNorm(num_groups, out_channels)
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, out_channels, H / stride, W / stride), rounded up."""
        return self.norm(self.conv(x.to(self.conv.weight.dtype)))


class ChannelMapper(Backbone):
    """Maps of one width for a transformer, always in 32 bit; on any Detectron2 backbone.

    The coarser maps beyond those of the backbone are made from its coarsest one, and from each
    other. Images are padded as the backbone asks for.

    Args:
        bottom_up: The backbone.
        in_features: Names of its maps, finest first.
        out_channels: Channels of every output.
        num_levels: Number of outputs, at least as many as ``in_features``.
        num_groups: Groups of the norms.
        bias: Whether the convolutions have biases: not in the networks released with PIIP, but in
            those of DINO's authors and of detrex.

    Raises:
        ValueError: If a name is unknown, the order is not finest first, or there are more names
            than levels.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int = 256,
        num_levels: int = 4,
        num_groups: int = 32,
        bias: bool = False,
    ) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        unknown = [name for name in in_features if name not in shapes]
        if unknown or not 0 < len(in_features) <= num_levels:
            raise ValueError(
                f"in_features must be up to num_levels ({num_levels}) of the backbone's maps "
                f"{list(shapes)}, got {list(in_features)}"
            )
        strides = [shapes[name].stride for name in in_features]
        if strides != sorted(set(strides)):
            raise ValueError(
                f"in_features must stand finest first, got {list(in_features)} of strides {strides}"
            )
        self.bottom_up = bottom_up
        self.in_features = list(in_features)
        channels = [shapes[name].channels for name in self.in_features]
        self.convs = nn.ModuleList(
            ProjectedMap(width, out_channels, num_groups, stride=1, bias=bias) for width in channels
        )
        num_extra = num_levels - len(channels)
        widths = [channels[-1], *[out_channels] * num_extra][:num_extra]
        self.extra_convs = nn.ModuleList(
            ProjectedMap(width, out_channels, num_groups, stride=2, bias=bias) for width in widths
        )
        strides += [strides[-1] * 2**number for number in range(1, num_extra + 1)]
        self._shapes = {
            f"p{int(math.log2(stride))}": ShapeSpec(channels=out_channels, stride=stride)
            for stride in strides
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images (B, 3, H, W) to maps (B, out_channels, h, w) by name, finest first."""
        features = self.bottom_up(images)
        inputs = [features[name] for name in self.in_features]
        with without_autocast(inputs[0].device):
            outputs = [conv(x) for conv, x in zip(self.convs, inputs, strict=True)]
            last = inputs[-1]
            for conv in self.extra_convs:
                last = conv(last)
                outputs.append(last)
        return dict(zip(self._shapes, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of the outputs, by name."""
        return dict(self._shapes)

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of this many pixels."""
        # Of Detectron2's backbones, Swin has this property but no value for it, and the pyramid of
        # ViTDet says it in its constraints alone, under a misspelt name.
        divisibility = getattr(self.bottom_up, "size_divisibility", 0)
        return max(divisibility, self.bottom_up.padding_constraints.get("size_divisiblity", 0))

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What ``ImageList`` has to heed when it pads."""
        return {
            **self.bottom_up.padding_constraints,
            "size_divisibility": self.size_divisibility,
        }
