"""Mask R-CNN on PIIP: Detectron2's own, with the backbone and the image format exchanged.

Its heads equal those of the released detectors: one RPN convolution, two fully connected layers,
class-specific boxes, four mask convolutions, no norms.
"""

from ..stock import load_stock
from .piip_fpn import backbone

model = load_stock("common/models/mask_rcnn_fpn.py").model
model.backbone = backbone
model.input_format = "RGB"
model.pixel_mean = [127.5, 127.5, 127.5]
model.pixel_std = [127.5, 127.5, 127.5]
