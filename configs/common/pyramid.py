"""The one place where the branches of a detector and the size of its images meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from .data.detection import set_image_size
from .data.multi_scale import use_multi_scale


def set_pyramid(
    model: DictConfig, dataloader: DictConfig, branches: Sequence[DictConfig], **options: Any
) -> None:
    """Gives a detector its branches, and the images the size of the largest.

    The long side of an image ends at most at the largest branch's resolution, the short side at
    most at 800/1333 of it, in training and evaluation.

    Args:
        model: A detector with a PIIP below ``backbone.bottom_up``; changed in place.
        dataloader: Made by ``detection_dataloader``; changed in place.
        branches: Largest resolution first.
        **options: Further settings of the PIIP.
    """
    _set_branches(model, branches, options)
    long_side = branches[0].img_size
    set_image_size(dataloader, long_side=long_side, short_side=long_side * 800 // 1333)


def set_multi_scale_pyramid(
    model: DictConfig, dataloader: DictConfig, branches: Sequence[DictConfig], **options: Any
) -> None:
    """Gives a detector its branches, and trains it on crops of images of many scales.

    Crops are at most as large as the largest branch's resolution, and all scales follow from it.

    Args:
        model: See :func:`set_pyramid`; its images are padded to multiples of 64 pixels.
        dataloader: See there.
        branches: Largest resolution first.
        **options: Further settings of the PIIP.
    """
    _set_branches(model, branches, {"size_divisibility": 64, **options})
    use_multi_scale(dataloader, max_crop=branches[0].img_size)


def set_partly_merged_pyramid(
    model: DictConfig,
    dataloader: DictConfig,
    train: DictConfig,
    branches: Sequence[DictConfig],
    merged: Sequence[int],
) -> None:
    """Gives a detector its branches, of which the end of the network uses some.

    Args:
        model: See :func:`set_pyramid`.
        dataloader: See there.
        train: The section ``train``; changed in place.
        branches: Largest resolution first.
        merged: Places in ``branches`` of those that are merged.
    """
    set_pyramid(model, dataloader, branches, merged_branches=list(merged))
    # What the last interaction does to the other branches reaches no output and gets no gradient,
    # which DistributedDataParallel takes for an error unless it is told.
    train.ddp.find_unused_parameters = True


def _set_branches(
    model: DictConfig, branches: Sequence[DictConfig], options: dict[str, Any]
) -> None:
    piip = model.backbone.bottom_up
    piip.branches = list(branches)
    for name, value in options.items():
        if name not in piip:
            raise ValueError(f"the PIIP has no setting {name!r}; it has {', '.join(piip)}")
        piip[name] = value
