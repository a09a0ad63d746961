"""PIIP-TSBL 1344/896/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 46.9 and mask AP 41.6 at 755 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti at 1344; DeiT III-S at 896, B at 672 and L at 448.

python train_net.py --config-file configs/mask_rcnn/piip_tsbl_1344_896_672_448_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsbl([1344, 896, 672, 448]))
