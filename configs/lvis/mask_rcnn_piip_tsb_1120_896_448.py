"""PIIP-TSB 1120/896/448, Mask R-CNN, 180,000 iterations of 16 images of LVIS v1.

Our own recipe: no result is published, and none is measured here.
Wanted initial weights: DeiT-Ti at 1120; DeiT III-S at 896 and B at 448.

python train_net.py --config-file configs/lvis/mask_rcnn_piip_tsb_1120_896_448.py --num-gpus 8
"""

from ..common.lvis import data, dataloader, lr_multiplier, optimizer, train, use_lvis_classes
from ..common.models.branches import tsb
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

use_lvis_classes(model)
set_pyramid(model, dataloader, tsb([1120, 896, 448]))
