"""A small Cascade Mask R-CNN on the small PIIP, from scratch."""

from .cascade_mask_rcnn import model
from .quick_piip import use_quick_piip

use_quick_piip(model, num_classes=80)
