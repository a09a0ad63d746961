"""PIIP-SBL 1568/1120/672, Cascade Mask R-CNN, 12 epochs of COCO.

Our own recipe, as none is published. The paper has box AP 53.6 and mask AP 46.3 at unnamed
sizes; not reproduced here. Wanted initial weights: DeiT III-S at 1568, B at 1120 and L at 672.

python train_net.py --config-file configs/cascade_rcnn/piip_sbl_1568_1120_672_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import sbl
from ..common.models.cascade_mask_rcnn import model
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([1568, 1120, 672]))
