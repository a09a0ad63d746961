"""PIIP-SBL 1568/1120/672 of DINOv2 networks, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 51.0 and mask AP 44.7; not reproduced here.
It names DeiT III for the Small branch, the released configuration and this one have DINOv2.
Wanted initial weights: DINOv2-S/14 at 1568, -B/14 at 1120 and -L/14 at 672.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_dinov2_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import dinov2_sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, dinov2_sbl([1568, 1120, 672]))
