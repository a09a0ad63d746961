"""The one place where the branches of a detector and the size of its images meet."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from .data.detection import set_image_size


def set_pyramid(model: DictConfig, dataloader: DictConfig, branches: Sequence[DictConfig]) -> None:
    """Gives a detector its branches, and the images the size of the largest.

    The long side of an image ends at most at the largest branch's resolution, the short side at
    most at 800/1333 of it, in training and evaluation.

    Args:
        model: A detector with a PIIP below ``backbone.bottom_up``; changed in place.
        dataloader: Made by ``detection_dataloader``; changed in place.
        branches: Largest resolution first.
    """
    model.backbone.bottom_up.branches = list(branches)
    long_side = branches[0].img_size
    set_image_size(dataloader, long_side=long_side, short_side=long_side * 800 // 1333)
