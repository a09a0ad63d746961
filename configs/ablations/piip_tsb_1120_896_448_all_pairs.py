"""PIIP-TSB 1120/896/448 with all pairs of branches exchanging.

The paper reports box AP 44.0 and mask AP 38.7 at 283 GFLOPs; not reproduced here. This is its
type 5. All else, initial weights too, as mask_rcnn/piip_tsb_1120_896_448_1x, which is type 4.

python train_net.py --config-file configs/ablations/piip_tsb_1120_896_448_all_pairs.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1120, 896, 448]), directions="all_pairs")
