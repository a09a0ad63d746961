"""Blocks of vision transformers and how a row of them is set up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from piip_d2.layers import Mlp, RelativePositionAttention, RMSNorm, WindowAttention
from piip_d2.ops import saves_memory

_ACTIVATIONS: dict[str, Any] = {"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, approximate="tanh")}
_NORMS: dict[str, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "rms": RMSNorm}
_DROP_PATH_SCHEDULES = ("constant", "linear")
# Parts that can take in the norm before them and the factors behind them, to keep less.
_FRUGAL_PARTS = (WindowAttention, RelativePositionAttention, Mlp)

_Setting = TypeVar("_Setting")


class ViTBlock(nn.Module):
    """Pre-norm attention and MLP with LayerScale and stochastic depth, on maps.

    Args:
        embed_dim: Channels.
        attn: Any module from (B, H, W, C) to the same.
        mlp_ratio: Hidden width of the MLP relative to ``embed_dim``.
        act: ``"gelu"`` or ``"gelu_tanh"``.
        norm: ``"layer"`` for LayerNorm, ``"rms"`` for RMSNorm.
        norm_eps: What the norms add to the variance.
        init_values: Initial LayerScale, or None for none.
        drop_path: Probability of skipping a residual.

    Raises:
        ValueError: If ``act`` or ``norm`` is unknown.
    """

    def __init__(
        self,
        embed_dim: int,
        attn: nn.Module,
        *,
        mlp_ratio: float = 4.0,
        act: str = "gelu",
        norm: str = "layer",
        norm_eps: float = 1e-6,
        init_values: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if act not in _ACTIVATIONS:
            raise ValueError(f"act must be one of {sorted(_ACTIVATIONS)}, got {act!r}")
        make_norm = _norm_factory(norm, norm_eps)
        self.norm1 = make_norm(embed_dim)
        self.attn = attn
        self.ls1 = _layer_scale(embed_dim, init_values)
        self.norm2 = make_norm(embed_dim)
        self.mlp = Mlp(embed_dim, int(embed_dim * mlp_ratio), _ACTIVATIONS[act]())
        self.ls2 = _layer_scale(embed_dim, init_values)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(_residual(x, self.norm1, self.attn, self.ls1))
        return x + self.drop_path(_residual(x, self.norm2, self.mlp, self.ls2))


class LayerScale(nn.Module):
    """A learned factor per channel, CaiT (https://arxiv.org/abs/2103.17239).

    Args:
        embed_dim: Channels.
        init_values: Initial factor.
    """

    def __init__(self, embed_dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(init_values * torch.ones(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scales (..., C)."""
        return x * self.gamma


def build_vit_block(
    embed_dim: int,
    num_heads: int,
    *,
    window_size: int | None = None,
    drop_path: float = 0.0,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    window_padding: str = "before_qkv",
    init_values: float | None = 1.0,
    act: str = "gelu",
    norm: str = "layer",
    norm_eps: float = 1e-6,
    qk_norm: bool = False,
) -> ViTBlock:
    """Builds a block of a plain vision transformer.

    Args:
        embed_dim: Channels.
        num_heads: Attention heads; divides ``embed_dim``.
        window_size: Side of the attention windows in cells, or None for global attention.
        drop_path: Probability of skipping a residual.
        mlp_ratio: Hidden width of the MLP relative to ``embed_dim``.
        qkv_bias: Whether query, key and value have a bias.
        window_padding: See :class:`piip_d2.layers.WindowAttention`.
        init_values: Initial LayerScale, or None for none.
        act: ``"gelu"`` or ``"gelu_tanh"``.
        norm: ``"layer"`` for LayerNorm, ``"rms"`` for RMSNorm.
        norm_eps: What the norms add to the variance.
        qk_norm: Whether query and key pass a norm of the same kind.

    Returns:
        The block, with PyTorch's initial weights.

    Raises:
        ValueError: If a choice is unknown or a size does not fit.
    """
    attn = WindowAttention(
        embed_dim,
        num_heads,
        qkv_bias=qkv_bias,
        window_size=window_size,
        window_padding=window_padding,
        qk_norm=_norm_factory(norm, norm_eps) if qk_norm else None,
    )
    return ViTBlock(
        embed_dim,
        attn,
        mlp_ratio=mlp_ratio,
        act=act,
        norm=norm,
        norm_eps=norm_eps,
        init_values=init_values,
        drop_path=drop_path,
    )


def build_vit_blocks(
    embed_dim: int,
    depth: int,
    num_heads: int,
    *,
    window_size: int | Sequence[int | None] | None,
    drop_path_rate: float,
    drop_path_schedule: str,
    **block_options: Any,
) -> list[ViTBlock]:
    """Builds a row of blocks of a plain vision transformer.

    Args:
        embed_dim: Channels.
        depth: Number of blocks.
        num_heads: Attention heads; divides ``embed_dim``.
        window_size: For all blocks, or one entry per block.
        drop_path_rate: See :func:`per_block_drop_paths`.
        drop_path_schedule: See there.
        **block_options: Further arguments of :func:`build_vit_block`.

    Returns:
        The blocks, with PyTorch's initial weights.

    Raises:
        ValueError: If a choice is unknown or ``window_size`` does not match ``depth``.
    """
    windows = per_block("window_size", window_size, depth)
    drop_paths = per_block_drop_paths(drop_path_rate, drop_path_schedule, depth)
    return [
        build_vit_block(
            embed_dim, num_heads, window_size=window, drop_path=drop_path, **block_options
        )
        for window, drop_path in zip(windows, drop_paths, strict=True)
    ]


def per_block(name: str, value: _Setting | Sequence[_Setting], depth: int) -> Sequence[_Setting]:
    """Spreads a setting over all blocks.

    Args:
        name: The setting's name, for the message.
        value: One value for all blocks, or one for each.
        depth: Number of blocks.

    Returns:
        One value for each block.

    Raises:
        ValueError: If there are values for another number of blocks.
    """
    if not isinstance(value, Sequence):
        return [value] * depth
    if len(value) != depth:
        raise ValueError(
            f"{name} must have one entry for each of the {depth} blocks, "
            f"got {len(value)}: {list(value)}"
        )
    return value


def per_block_drop_paths(rate: float, schedule: str, depth: int) -> list[float]:
    """Rates of stochastic depth, by block.

    Args:
        rate: In [0, 1).
        schedule: ``"constant"`` gives every block the rate, ``"linear"`` grows it from 0 to it.
        depth: Number of blocks.

    Returns:
        One rate for each block.

    Raises:
        ValueError: If the rate is out of range or the schedule unknown.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
    if schedule not in _DROP_PATH_SCHEDULES:
        raise ValueError(
            f"drop_path_schedule must be one of {_DROP_PATH_SCHEDULES}, got {schedule!r}"
        )
    if schedule == "constant" or depth == 1:
        return [rate] * depth
    return [rate * block / (depth - 1) for block in range(depth)]


def _norm_factory(norm: str, eps: float) -> Callable[[int], nn.Module]:
    if norm not in _NORMS:
        raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {norm!r}")
    return partial(_NORMS[norm], eps=eps)


def _residual(x: Tensor, norm: nn.Module, part: nn.Module, layer_scale: nn.Module) -> Tensor:
    # Others, and subclasses with a way of their own, may map a tensor to a tensor and no more.
    if type(part) not in _FRUGAL_PARTS or not saves_memory(x):
        return layer_scale(part(norm(x)))
    if type(layer_scale) is LayerScale:
        return part(x, norm=norm, scale=layer_scale.gamma)
    return layer_scale(part(x, norm=norm))


def _layer_scale(embed_dim: int, init_values: float | None) -> nn.Module:
    return nn.Identity() if init_values is None else LayerScale(embed_dim, init_values)
