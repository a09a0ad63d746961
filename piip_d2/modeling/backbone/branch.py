"""What PIIP asks of a network that is to be one of its branches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch.utils.checkpoint
from torch import Tensor, nn


class Branch(nn.Module, ABC):
    """One network of the pyramid, run a few blocks at a time.

    A branch turns an image into a map and carries that map through its blocks. PIIP knows no more
    about it than this interface, so that any network with a flat list of blocks can be a branch.

    Args:
        img_size: Nominal side of this branch's image in pixels. Only the ratios between the
            branches' sizes matter: they set the scales of the image pyramid.
        use_act_checkpoint: Recompute each block's activations in the backward pass.

    Raises:
        ValueError: If the size is not positive.
    """

    def __init__(self, img_size: int, *, use_act_checkpoint: bool = False) -> None:
        super().__init__()
        if img_size <= 0:
            raise ValueError(f"img_size must be positive, got {img_size}")
        self.img_size = img_size
        self.use_act_checkpoint = use_act_checkpoint

    @property
    @abstractmethod
    def block_list(self) -> Sequence[nn.Module]:
        """All blocks in the order they run in, whatever they are grouped by."""

    @abstractmethod
    def channels_after(self, block: int) -> int:
        """Channels of the map behind block number ``block``."""

    @abstractmethod
    def stride_after(self, block: int) -> int:
        """Image pixels per cell of the map behind block number ``block``."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into the map (B, H, W, C) that the first block takes."""

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.block_list)

    def forward_blocks(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Runs the blocks ``start`` to ``stop - 1`` on a map (B, H, W, C)."""
        for block in self.block_list[start:stop]:
            x = self.run_step(block, x)
        return x

    def run_step(self, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Runs one block, in training so that its activations are recomputed if that is wanted."""
        if self.use_act_checkpoint and self.training:
            recomputed: Tensor = torch.utils.checkpoint.checkpoint(step, x, use_reentrant=False)
            return recomputed
        return step(x)
