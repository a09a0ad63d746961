r"""PIIP-TSB 1120/896/448 without interactions: an image pyramid that is merged at the end.

The paper reports box AP 41.3 at 176 GFLOPs; not reproduced here.
All else, initial weights too, as mask_rcnn/piip_tsb_1120_896_448_1x with its 12 interactions.

python train_net.py --config-file configs/ablations/piip_tsb_1120_896_448_no_interaction.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, tsb([1120, 896, 448]), num_interactions=0)
