"""PIIP-TSB with all branches at 896: a pyramid of parameters, but none of images.

The paper reports box AP 44.6 and mask AP 39.0 at 468 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti, DeiT III-S and DeiT III-B.

python train_net.py --config-file configs/ablations/piip_tsb_896_896_896.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([896, 896, 896]))
