"""The released recipe for DINO on COCO but for the pyramid: 12 epochs, 32 images a batch."""

from .coco_1x_batch_32 import (
    ITERATIONS_PER_EPOCH,
    data,
    dataloader,
    lr_multiplier,
    optimizer,
    train,
)
from .models.dino import model

dataloader.train.mapper.use_instance_mask = False
# The released configurations ask for it; their training engine probably left it out.
train.clip_grad.enabled = True
train.clip_grad.max_norm = 0.1
