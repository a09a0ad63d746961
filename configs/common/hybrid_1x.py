"""The released recipe on COCO for pyramids with ConvNeXts, but for the networks."""

from .coco_1x import data, dataloader, lr_multiplier, optimizer, train
from .models.mask_rcnn_four_depths import model

# Images end at 800 x 1333 pixels whatever the pyramid, which knows ratios alone.
optimizer.lr = 2e-4
# It concerns the ViTs; ConvNeXts learn at the full rate.
optimizer.params.layer_decay = 0.8
