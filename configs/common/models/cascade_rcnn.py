"""Cascade R-CNN on PIIP: the Cascade Mask R-CNN without its mask branch."""

from .cascade_mask_rcnn import model

for _name in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(_name)
