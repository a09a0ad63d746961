"""Aerial photographs with boxes around the crowns of trees, at their own scale."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .detection import detection_dataloader, set_image_size

dataloader = detection_dataloader(
    train="trees_train", test="trees_val", total_batch_size=8, with_masks=False, num_workers=2
)
set_image_size(dataloader, long_side=400, short_side=400)
# There are 34 photographs only: each gives many views. Seen from above, a tree has no up and down.
dataloader.train.mapper.augmentations += [
    L(T.RandomFlip)(horizontal=False, vertical=True),
    L(T.RandomRotation)(angle=[0, 90], sample_style="choice"),
    L(T.RandomBrightness)(intensity_min=0.75, intensity_max=1.3),
    L(T.RandomContrast)(intensity_min=0.75, intensity_max=1.3),
    L(T.RandomCrop)(crop_type="absolute", crop_size=[256, 256]),
]
