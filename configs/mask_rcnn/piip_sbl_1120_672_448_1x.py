"""PIIP-SBL 1120/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 46.7 and mask AP 40.8 at 727 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-S at 1120, B at 672 and L at 448.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_1120_672_448_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([1120, 672, 448]))
