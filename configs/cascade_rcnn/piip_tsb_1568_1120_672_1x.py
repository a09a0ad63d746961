"""PIIP-TSB 1568/1120/672, Cascade Mask R-CNN, 12 epochs of COCO.

Our own recipe: no result is published, and none is measured here.
Wanted initial weights: DeiT-Ti at 1568, DeiT III-S at 1120 and B at 672.

python train_net.py --config-file configs/cascade_rcnn/piip_tsb_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.cascade_mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1568, 1120, 672]))
