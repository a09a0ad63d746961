"""PIIP-SBL 1344/896/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 48.2 and mask AP 42.5 at 1002 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-S at 1344, B at 896 and L at 448.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_1344_896_448_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([1344, 896, 448]))
