"""PIIP of three Base networks, 896/448/224: a pyramid of images, but none of parameters.

The paper reports box AP 44.5 and mask AP 38.7 at 466 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-B in all three branches.

python train_net.py --config-file configs/ablations/piip_bbb_896_448_224.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import deit
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, deit("bbb", [896, 448, 224], window_size=14))
