r"""PIIP-TSB 1120/896/448 with 4 interactions of deformable attention.

The paper reports box AP 43.0 at 198 GFLOPs; not reproduced here. All else, initial weights too, as
mask_rcnn/piip_tsb_1120_896_448_1x, where 12 interactions of deformable attention reach 0.9 more.

python train_net.py --config-file configs/ablations/piip_tsb_1120_896_448_deformable_4.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1120, 896, 448]), num_interactions=4)
