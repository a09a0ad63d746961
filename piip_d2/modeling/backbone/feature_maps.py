"""Maps at several strides from the one merged map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class FeatureMaps(nn.Module):
    """Scales one map up by transposed convolutions and down by max-pooling.

    The simple pyramid of ViTDet (https://arxiv.org/abs/2203.16527), section 3, in the form PIIP
    uses: no projection and no norm behind the last convolution.

    Args:
        dim: Channels of the merged map and of every output.
        in_stride: Stride of the merged map in pixels.
        out_features: Names of the wanted maps, finest first: res2, res3, res4, res5 for the
            strides 4, 8, 16, 32.

    Raises:
        ValueError: If a name is unknown, the order is not finest first or a stride cannot be
            reached from ``in_stride``.
    """

    def __init__(
        self, dim: int, in_stride: int = 16, out_features: Sequence[str] = tuple(STRIDES)
    ) -> None:
        super().__init__()
        if not out_features or list(out_features) != [
            name for name in STRIDES if name in out_features
        ]:
            raise ValueError(
                f"out_features must be some of {list(STRIDES)} in this order, got "
                f"{list(out_features)}"
            )
        self.dim = dim
        self.strides = {name: STRIDES[name] for name in out_features}
        self.maps = nn.ModuleDict(
            {name: _scale(dim, in_stride, stride) for name, stride in self.strides.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps the merged map (B, C, H, W) to one map (B, C, h, w) per name, finest first."""
        return {name: scale(x) for name, scale in self.maps.items()}


def _scale(dim: int, in_stride: int, stride: int) -> nn.Module:
    if stride == in_stride:
        return nn.Identity()
    if stride > in_stride and stride % in_stride == 0:
        return nn.MaxPool2d(stride // in_stride)
    if stride * 2 == in_stride:
        return nn.Sequential(_double(dim))
    if stride * 4 == in_stride:
        return nn.Sequential(_double(dim), nn.GroupNorm(32, dim), nn.GELU(), _double(dim))
    raise ValueError(
        f"a map of stride {stride} cannot be made from the merged map of stride {in_stride}; "
        "leave it out of out_features or change the patch size of the highest-resolution branch"
    )


def _double(dim: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(dim, dim, 2, stride=2)
    nn.init.normal_(layer.weight, std=(2.0 / (4 * dim)) ** 0.5)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
