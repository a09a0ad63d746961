"""Training on crops of images of many scales, as the released recipes for large models do it."""

from __future__ import annotations

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.data.augmentation import MultiScaleCrop

# At the scales of DETR crops end at most at this many pixels.
_CROP = 1024


def use_multi_scale(dataloader: DictConfig, *, max_crop: int) -> None:
    """Sets scales and crops in training, and the largest of the scales in evaluation.

    Args:
        dataloader: Made by ``detection_dataloader``; changed in place.
        max_crop: Longest side of a training image in pixels. The scales grow with it.
    """

    def scaled(length: int) -> int:
        return length * max_crop // _CROP

    short_sides = [scaled(side) for side in range(480, 801, 32)]
    _, flip = dataloader.train.mapper.augmentations
    dataloader.train.mapper.augmentations = [
        flip,
        L(MultiScaleCrop)(
            short_edge_lengths=short_sides,
            max_size=scaled(1333),
            zoom_short_edge_lengths=[scaled(side) for side in (400, 500, 600)],
            zoom_crop_range=[scaled(384), scaled(600)],
            max_crop=max_crop,
        ),
    ]
    resize = dataloader.test.mapper.augmentations[0]
    resize.max_size, resize.short_edge_length = scaled(1333), scaled(800)
