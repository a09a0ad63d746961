"""PIIP-TSB 1120/896/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 43.9 and mask AP 38.6 at 243 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti at 1120; DeiT III-S at 896 and B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_tsb_1120_896_448_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1120, 896, 448]))
