"""PIIP-TSB 1120/896/448, DINO, 12 epochs of COCO at many scales.

Our own recipe: no result is published and none is measured here.
Wanted initial weights: DeiT-Ti at 1120, DeiT III-S at 896 and B at 448.

python train_net.py --config-file configs/dino/piip_tsb_1120_896_448_1x.py --num-gpus 8
"""

from ..common.dino_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import tsb
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, tsb([1120, 896, 448]), size_divisibility=224)
