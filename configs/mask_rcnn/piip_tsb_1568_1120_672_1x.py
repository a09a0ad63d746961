"""PIIP-TSB 1568/1120/672, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 46.6 and mask AP 41.4 at 453 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti at 1568; DeiT III-S at 1120 and B at 672.

python train_net.py --config-file configs/mask_rcnn/piip_tsb_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1568, 1120, 672]))
