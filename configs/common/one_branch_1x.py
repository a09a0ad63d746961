"""The released recipe on COCO for one network alone, but for the network."""

from .coco_1x import data, dataloader, lr_multiplier, optimizer, train
from .models.mask_rcnn_one_branch import model

optimizer.params.layer_decay = 0.95
