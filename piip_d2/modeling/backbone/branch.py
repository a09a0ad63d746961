"""What PIIP asks of a network that is to be one of its branches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from piip_d2.layers.activation_checkpoint import ActivationCheckpointing


class Branch(ActivationCheckpointing, ABC):
    """One network of the pyramid, run a few blocks at a time.

    A branch turns an image into a map and carries that map through its blocks. PIIP knows no more
    about it than this interface, so that any network with a flat list of blocks can be a branch.

    Args:
        img_size: Nominal side of this branch's image in pixels. Only the ratios between the
            branches' sizes matter: they set the scales of the image pyramid.
        use_act_checkpoint: What is recomputed in the backward pass, see
            :class:`~piip_d2.layers.activation_checkpoint.ActivationCheckpointing`.

    Attributes:
        in_chans: Channels of the images; a branch for others than RGB has another number.

    Raises:
        ValueError: If the size is not positive or there is no such way to recompute.
    """

    in_chans: int = 3

    def __init__(self, img_size: int, *, use_act_checkpoint: bool | str = False) -> None:
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
        return self.run_steps(self.block_list[start:stop], x)

    def run_steps(self, steps: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        """Runs some blocks in turn; in training their activations are recomputed if wanted."""
        if self.use_act_checkpoint == "stage" and steps:
            steps = [partial(_run_in_turn, steps)]
        for step in steps:
            x = self.run_checkpointed(step, x)
        return x


def _run_in_turn(steps: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x
