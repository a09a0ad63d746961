"""PIIP-SBL 1568/1120/672 of DeiT III-S and BEiTv2-B and -L, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 51.8 and mask AP 45.4; not reproduced here.
Wanted initial weights: DeiT III-S at 1568, BEiTv2-B at 1120 and BEiTv2-L at 672.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_beit_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import beit_sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, beit_sbl([1568, 1120, 672]))
