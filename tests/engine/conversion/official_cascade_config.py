"""A whole configuration for the small cascade that computes as mmdetection's."""

from ....configs.common.models.cascade_as_mmdet import use_mmdet_behaviour
from .official_cascade_plain_config import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_mmdet_behaviour(model)
