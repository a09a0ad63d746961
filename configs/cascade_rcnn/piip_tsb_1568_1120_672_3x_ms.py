"""PIIP-TSB 1568/1120/672, Cascade Mask R-CNN, 36 epochs of COCO at many scales.

Our own recipe, as none is published. The paper has box AP 53.1 and mask AP 46.5 at unnamed
sizes; not reproduced here. Initial weights: DeiT-Ti at 1568, DeiT III-S at 1120 and B at 672.

python train_net.py --config-file configs/cascade_rcnn/piip_tsb_1568_1120_672_3x_ms.py --num-gpus 8
"""

from ..common.cascade_3x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import tsb
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, tsb([1568, 1120, 672]), size_divisibility=224)
