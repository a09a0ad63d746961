"""Rendered scenes of overlapping shapes, with masks as polygons and run lengths."""

from .detection import detection_dataloader

dataloader = detection_dataloader(
    train="scenes_v1_train", test="scenes_v1_val", total_batch_size=8, num_workers=2
)
