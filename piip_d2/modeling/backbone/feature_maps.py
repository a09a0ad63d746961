"""Maps at several strides from what was merged."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from piip_d2.layers.frugal_sequential import FrugalSequential
from piip_d2.ops import doubling

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
_NORMS = ("group", "layer")


class FeatureMaps(nn.Module):
    """Scales one map up by transposed convolutions and down by max-pooling.

    The simple pyramid of ViTDet (https://arxiv.org/abs/2203.16527), section 3, in the form PIIP
    uses: no projection and no norm behind the last convolution.

    Args:
        dim: Channels of the merged map and of every output.
        in_stride: Stride of the merged map in pixels.
        out_features: Names of the wanted maps, finest first: res2, res3, res4, res5 for the
            strides 4, 8, 16, 32.
        norm: Norm between the two convolutions of a fourfold enlargement: ``"group"`` as in PIIP,
            ``"layer"`` as in the plain networks it is compared with.

    Raises:
        ValueError: If a name is unknown, the order is not finest first or a stride cannot be
            reached from ``in_stride``.
    """

    def __init__(
        self,
        dim: int,
        in_stride: int = 16,
        out_features: Sequence[str] = tuple(STRIDES),
        norm: str = "group",
    ) -> None:
        super().__init__()
        self.strides = _wanted_strides(out_features)
        self.channels = dict.fromkeys(self.strides, dim)
        self.maps = nn.ModuleDict(
            {name: _scale(dim, in_stride, stride, norm) for name, stride in self.strides.items()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps the merged map (B, C, H, W) to one map (B, C, h, w) per name, finest first."""
        return {name: scale(x) for name, scale in self.maps.items()}


class StageFeatureMaps(nn.Module):
    """Takes every map from another depth of the network, as convolutional networks do.

    Args:
        dims: Channels of the merged maps, in the order of their depth, and of the outputs.
        in_strides: Their strides in pixels.
        out_features: Names of the outputs, finest first, one per merged map; see
            :class:`FeatureMaps`.
        norm: See :class:`FeatureMaps`.

    Raises:
        ValueError: If there are not as many maps as names, or as in :class:`FeatureMaps`.
    """

    def __init__(
        self,
        dims: Sequence[int],
        in_strides: Sequence[int],
        out_features: Sequence[str] = tuple(STRIDES),
        norm: str = "group",
    ) -> None:
        super().__init__()
        self.strides = _wanted_strides(out_features)
        if len(dims) != len(self.strides) or len(in_strides) != len(self.strides):
            raise ValueError(
                f"out_features {list(out_features)} need one merged map each, got {len(dims)}: "
                "one after each of out_interactions and one at the end"
            )
        self.channels = dict(zip(self.strides, dims, strict=True))
        self.maps = nn.ModuleDict(
            {
                name: _scale(dim, in_stride, stride, norm)
                for (name, stride), dim, in_stride in zip(
                    self.strides.items(), dims, in_strides, strict=True
                )
            }
        )

    def forward(self, merged: Sequence[Tensor]) -> dict[str, Tensor]:
        """Maps one (B, C, H, W) per depth to one (B, C, h, w) per name, finest first."""
        return {name: scale(x) for (name, scale), x in zip(self.maps.items(), merged, strict=True)}


def _wanted_strides(out_features: Sequence[str]) -> dict[str, int]:
    if not out_features or list(out_features) != [name for name in STRIDES if name in out_features]:
        raise ValueError(
            f"out_features must be some of {list(STRIDES)} in this order, got {list(out_features)}"
        )
    return {name: STRIDES[name] for name in out_features}


def _scale(dim: int, in_stride: int, stride: int, norm: str) -> nn.Module:
    if stride == in_stride:
        return nn.Identity()
    if stride > in_stride and stride % in_stride == 0:
        return nn.MaxPool2d(stride // in_stride)
    if stride * 2 == in_stride:
        return FrugalSequential(_double(dim))
    if stride * 4 == in_stride:
        return FrugalSequential(_double(dim), _norm(norm, dim), nn.GELU(), _double(dim))
    raise ValueError(
        f"a map of stride {stride} cannot be made from the merged map of stride {in_stride}; "
        "leave it out of out_features or change the patch size of the highest-resolution branch"
    )


def _norm(kind: str, dim: int) -> nn.Module:
    if kind not in _NORMS:
        raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {kind!r}")
    return nn.GroupNorm(32, dim) if kind == "group" else LayerNorm2d(dim, eps=1e-6)


def _double(dim: int) -> nn.ConvTranspose2d:
    layer = _Doubling(dim)
    nn.init.normal_(layer.weight, std=(2.0 / (4 * dim)) ** 0.5)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


class _Doubling(nn.ConvTranspose2d):
    """A transposed convolution of kernel and stride 2, see :func:`piip_d2.ops.doubling`.

    Args:
        dim: Channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (B, C, H, W) to (B, C, 2H, 2W)."""
        return doubling(x, self.weight, self.get_parameter("bias"))
