"""Rendered scenes of overlapping shapes, with masks as polygons and run lengths."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .detection import detection_dataloader

dataloader = detection_dataloader(
    train="scenes_v1_train", test="scenes_v1_val", total_batch_size=8, num_workers=2
)
# The shapes have no up and down.
dataloader.train.mapper.augmentations.append(L(T.RandomFlip)(horizontal=False, vertical=True))
