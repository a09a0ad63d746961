"""ConvNeXt as a branch, on timm's blocks. https://arxiv.org/abs/2201.03545."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from timm.layers import LayerNorm, LayerNorm2d, trunc_normal_
from timm.models.convnext import ConvNeXtStage
from torch import Tensor, nn

from piip_d2.modeling.backbone.branch import Branch

_STEM_STRIDE = 4


class ConvNeXtBranch(Branch):
    """ConvNeXt without its final norm and head, as a flat list of blocks.

    The down-sampling layers in front of all stages but the first count as blocks of their own, so
    that interactions can sit before and behind them. Weights have timm's names.

    Args:
        img_size: Nominal image side in pixels, see :class:`Branch`.
        depths: Number of residual blocks in each stage.
        dims: Channels of each stage.
        drop_path_rate: Stochastic depth in [0, 1), grown from 0 to this over the residual blocks.
        use_act_checkpoint: What is recomputed in the backward pass, see :class:`Branch`.

    Raises:
        ValueError: If ``depths`` and ``dims`` differ in length, are empty or hold a number below
            one, or if the rate is out of range.
    """

    def __init__(
        self,
        *,
        img_size: int,
        depths: Sequence[int],
        dims: Sequence[int],
        drop_path_rate: float = 0.0,
        use_act_checkpoint: bool | str = False,
    ) -> None:
        super().__init__(img_size, use_act_checkpoint=use_act_checkpoint)
        self.depths, self.dims = tuple(depths), tuple(dims)
        self._check_sizes()
        self.stem = nn.Sequential(
            nn.Conv2d(3, self.dims[0], _STEM_STRIDE, stride=_STEM_STRIDE),
            LayerNorm2d(self.dims[0], eps=1e-6),
        )
        drop_paths = _stage_drop_paths(drop_path_rate, self.depths)
        self.stages = nn.ModuleList(
            ConvNeXtStage(
                self.dims[max(stage - 1, 0)],
                self.dims[stage],
                stride=1 if stage == 0 else 2,
                depth=self.depths[stage],
                drop_path_rates=drop_paths[stage],
                ls_init_value=1e-6,
                norm_layer=LayerNorm2d,
                norm_layer_cl=LayerNorm,
            )
            for stage in range(len(self.depths))
        )
        self._stage_of_block = [stage for stage, _ in flat_blocks(self.stages)]
        self._init_weights()

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """Each stage's down-sampling layer, if it has one, then its residual blocks."""
        return [block for _, block in flat_blocks(self.stages)]

    def channels_after(self, block: int) -> int:
        """Channels of the map behind ``block``: its stage's."""
        return self.dims[self._stage_of_block[block]]

    def stride_after(self, block: int) -> int:
        """Image pixels per cell behind ``block``: 4, doubled by each down-sampling layer."""
        return _STEM_STRIDE * 2 ** self._stage_of_block[block]

    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into (B, h // 4, w // 4, C)."""
        return self.stem(images).permute(0, 2, 3, 1)

    def forward_blocks(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Runs the blocks ``start`` to ``stop - 1`` on a map (B, H, W, C)."""
        # timm's blocks take (B, C, H, W): one flip for all of them, of strides and not of memory.
        x = super().forward_blocks(x.permute(0, 3, 1, 2), start, stop)
        return x.permute(0, 2, 3, 1)

    def _check_sizes(self) -> None:
        if not self.depths or len(self.depths) != len(self.dims):
            raise ValueError(
                f"depths and dims must have one entry for each stage, got {len(self.depths)} "
                f"and {len(self.dims)}: {self.depths} and {self.dims}"
            )
        if min(*self.depths, *self.dims) < 1:
            raise ValueError(f"depths and dims must be positive, got {self.depths}, {self.dims}")

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def flat_blocks(stages: Iterable[Any]) -> list[tuple[int, nn.Module]]:
    """Lists the layers of timm's ConvNeXt stages in the order they run in.

    Args:
        stages: Modules with ``downsample``, an ``nn.Identity`` where there is nothing to do, and
            ``blocks``.

    Returns:
        For each stage its down-sampling layer, if it has one, then its blocks; each with the
        number of its stage, from 0.
    """
    pairs: list[tuple[int, nn.Module]] = []
    for number, stage in enumerate(stages):
        if not isinstance(stage.downsample, nn.Identity):
            pairs.append((number, stage.downsample))
        pairs.extend((number, block) for block in stage.blocks)
    return pairs


def _stage_drop_paths(rate: float, depths: Sequence[int]) -> list[list[float]]:
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
    step = rate / max(sum(depths) - 1, 1)
    firsts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [
        [step * (first + block) for block in range(depth)]
        for first, depth in zip(firsts, depths, strict=True)
    ]
