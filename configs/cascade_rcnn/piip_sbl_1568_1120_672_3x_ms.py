"""PIIP-SBL 1568/1120/672, Cascade Mask R-CNN, 36 epochs of COCO at many scales.

Our own recipe, as none is published. The paper has box AP 54.5 and mask AP 47.7 at unnamed
sizes; not reproduced here. Initial weights: DeiT III-S at 1568, B at 1120 and L at 672.

python train_net.py --config-file configs/cascade_rcnn/piip_sbl_1568_1120_672_3x_ms.py --num-gpus 8
"""

from ..common.cascade_3x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import sbl
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, sbl([1568, 1120, 672]), size_divisibility=224)
