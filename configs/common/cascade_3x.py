"""36 epochs of COCO for a Cascade Mask R-CNN, three times the released recipe for Mask R-CNN."""

from .coco_1x import ITERATIONS_PER_EPOCH, data, dataloader, optimizer, train
from .models.cascade_mask_rcnn import model
from .schedule import step_schedule

EPOCHS = 36

lr_multiplier = step_schedule(EPOCHS, [27, 33], warmup_iterations=500)
train.max_iter = EPOCHS * ITERATIONS_PER_EPOCH
