r"""PIIP-TSBL 1344/896/672/448 as released: with a second Small branch in the place of Tiny.

For the authors' weights, whose code builds it so. Their repository reports box AP 47.1 and mask
AP 41.9; not reproduced here.
Wanted initial weights: DeiT III-S at 1344 and 896, B at 672 and L at 448.

python train_net.py --config-file configs/mask_rcnn/piip_tsbl_1344_896_672_448_1x_as_released.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsbl([1344, 896, 672, 448], as_released=True))
