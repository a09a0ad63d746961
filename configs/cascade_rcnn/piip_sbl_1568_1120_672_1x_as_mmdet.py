r"""PIIP-SBL 1568/1120/672, Cascade Mask R-CNN that trains and tests as mmdetection's, 12 epochs.

Our own recipe, as piip_sbl_1568_1120_672_1x but for the heads. Weights that mmdetection has trained
give their own detections here: exact box deltas, averaged logits, a mask head per stage.

python train_net.py --config-file configs/cascade_rcnn/piip_sbl_1568_1120_672_1x_as_mmdet.py \
    --num-gpus 8
"""

from ..common.models.cascade_as_mmdet import use_mmdet_behaviour
from .piip_sbl_1568_1120_672_1x import data, dataloader, lr_multiplier, model, optimizer, train

use_mmdet_behaviour(model, mask_heads=3)
