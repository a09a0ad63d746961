"""PIIP-TSB 1568/1120/672 whose feature maps come from the Base branch alone.

The paper reports box AP 43.1 and mask AP 37.0; not reproduced here. All else, initial weights too,
as mask_rcnn/piip_tsb_1568_1120_672_1x, where the three of them reach 3.5 more box AP.

python train_net.py --config-file configs/ablations/piip_tsb_1568_1120_672_merge_b.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_partly_merged_pyramid

set_partly_merged_pyramid(model, dataloader, train, tsb([1568, 1120, 672]), [2])
