"""Mask R-CNN on PIIP without projections and norms in its interactions: "faster training".

The released models of this kind also approximate GELU by tanh, which is up to the branches.
"""

from .mask_rcnn import model

model.backbone.bottom_up.with_projection = False
model.backbone.bottom_up.with_norm = False
