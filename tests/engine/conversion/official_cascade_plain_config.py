"""A whole configuration for a small cascade that computes as Detectron2's."""

from ....configs.common.models.cascade_mask_rcnn import model as _released
from .official_config import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

_heads = _released.roi_heads
_heads.num_classes = 7
for _head, _predictor in zip(_heads.box_heads, _heads.box_predictors, strict=True):
    _head.input_shape.channels = 32
    _head.fc_dims = [48, 48]
    _predictor.input_shape.channels = 48
_heads.mask_head.input_shape.channels = 32
_heads.mask_head.conv_dims = [24] * 5
model.roi_heads = _heads
