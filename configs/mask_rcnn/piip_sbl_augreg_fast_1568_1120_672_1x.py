r"""PIIP-SBL 1568/1120/672 of AugReg networks without projections and norms in its interactions.

Mask R-CNN, 12 epochs of COCO; its GELU is the approximation by tanh.

The authors' repository reports box AP 48.1 and mask AP 42.4; not reproduced here.
Wanted initial weights: AugReg S/16, B/16 and L/16, pre-trained at 384 pixels.

python train_net.py --config-file configs/mask_rcnn/piip_sbl_augreg_fast_1568_1120_672_1x.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import augreg_sbl
from ..common.models.mask_rcnn_fast import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, augreg_sbl([1568, 1120, 672], act="gelu_tanh"))
