"""PIIP-SBL 1568/1120/672 of AugReg networks, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 48.3 and mask AP 42.6; not reproduced here.
Wanted initial weights: AugReg S/16 at 1568, B/16 at 1120 and L/16 at 672, of 384 pixels.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_augreg_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import augreg_sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, augreg_sbl([1568, 1120, 672]))
