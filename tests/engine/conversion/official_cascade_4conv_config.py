"""A whole configuration for a small cascade with convolutions in its box heads."""

from ....configs.common.models.cascade_4conv1fc import use_4conv1fc
from .official_cascade_config import (  # noqa: F401
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_4conv1fc(model, norm="BN")
