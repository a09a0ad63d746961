"""PIIP-SBL with all branches at 848: a pyramid of parameters, but none of images.

The paper reports box AP 47.2 and mask AP 41.1 at 1539 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-S, DeiT III-B and DeiT III-L.

python train_net.py --config-file configs/ablations/piip_sbl_848_848_848.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import sbl
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([848, 848, 848]))
