"""Mask R-CNN on one network, the baselines of PIIP: nothing to interact with, nothing to merge."""

from .mask_rcnn import model

model.backbone.bottom_up.num_interactions = 0
model.backbone.bottom_up.merge = "none"
model.backbone.bottom_up.feature_norm = "layer"
model.backbone.bottom_up.size_divisibility = 64
