"""PIIP-SBL 1568/896/672, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 49.4 and mask AP 43.7 at 1464 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-S at 1568, B at 896 and L at 672.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_1568_896_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([1568, 896, 672]))
