"""Heads that work on regions, beside Detectron2's own."""

from piip_d2.modeling.roi_heads.box_regression import BoundedBox2BoxTransform
from piip_d2.modeling.roi_heads.cascade import ExtendedCascadeROIHeads
from piip_d2.modeling.roi_heads.mask_ensemble import MaskHeadEnsemble

__all__ = ["BoundedBox2BoxTransform", "ExtendedCascadeROIHeads", "MaskHeadEnsemble"]
