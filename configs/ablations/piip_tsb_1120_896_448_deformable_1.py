r"""PIIP-TSB 1120/896/448 with 1 interaction of deformable attention.

The paper reports box AP 41.9 at 182 GFLOPs; not reproduced here. All else, initial weights too, as
mask_rcnn/piip_tsb_1120_896_448_1x, where 12 interactions of deformable attention reach 2.0 more.

python train_net.py --config-file configs/ablations/piip_tsb_1120_896_448_deformable_1.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1120, 896, 448]), num_interactions=1)
