"""PIIP of three Large networks, 896/448/224: a pyramid of images, but none of parameters.

The paper reports box AP 46.9 and mask AP 40.8 at 1458 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-L in all three branches.

python train_net.py --config-file configs/ablations/piip_lll_896_448_224.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import deit
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, deit("lll", [896, 448, 224], window_size=14))
