"""Mask R-CNN on feature maps that PIIP merges at four depths: its ConvNeXts have such stages."""

from .mask_rcnn import model

model.backbone.bottom_up.merge = "single_conv"
model.backbone.bottom_up.out_interactions = [0, 1, 10]
model.backbone.bottom_up.size_divisibility = 32
# These models alone are fed with ImageNet's statistics.
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]
