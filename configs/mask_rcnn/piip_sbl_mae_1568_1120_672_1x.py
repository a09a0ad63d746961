"""PIIP-SBL 1568/1120/672 of DeiT III-S and MAE-B and -L, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 49.1 and mask AP 43.0; not reproduced here.
Wanted initial weights: DeiT III-S at 1568, MAE-B at 1120 and MAE-L at 672.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_mae_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import mae_sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, mae_sbl([1568, 1120, 672]))
