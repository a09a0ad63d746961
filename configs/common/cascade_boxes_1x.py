"""12 epochs of COCO for a Cascade R-CNN; no masks are loaded."""

from .coco_1x import data, dataloader, lr_multiplier, optimizer, train
from .models.cascade_rcnn import model

dataloader.train.mapper.use_instance_mask = False
