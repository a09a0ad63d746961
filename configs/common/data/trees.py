"""Aerial photographs with boxes around the crowns of trees, at their own scale."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .detection import detection_dataloader

dataloader = detection_dataloader(
    train="trees_train", test="trees_val", total_batch_size=4, with_masks=False, num_workers=2
)
# Seen from above, a tree has no up and down.
dataloader.train.mapper.augmentations.append(L(T.RandomFlip)(horizontal=False, vertical=True))
