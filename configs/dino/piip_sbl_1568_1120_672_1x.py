"""PIIP-SBL 1568/1120/672, DINO, 12 epochs of COCO at many scales.

Our own recipe: no result is published, and none is measured here.
Wanted initial weights: DeiT III-S at 1568, B at 1120 and L at 672.

python train_net.py --config-file configs/dino/piip_sbl_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.dino_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import sbl
from ..common.pyramid import set_multi_scale_pyramid

pyramid = sbl([1568, 1120, 672])
set_multi_scale_pyramid(model, dataloader, pyramid, size_divisibility=224)
