r"""PIIP-TSB 1568/1120/672, Cascade R-CNN, 36 epochs of COCO at many scales.

Our own recipe. With masks the paper has box AP 53.1 at unnamed sizes; not reproduced here.
As piip_tsb_1568_1120_672_3x_ms, with its initial weights, but without masks.

python train_net.py --config-file configs/cascade_rcnn/piip_tsb_1568_1120_672_3x_ms_boxes.py \
    --num-gpus 8
"""

from ..common.cascade_boxes_3x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import tsb
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, tsb([1568, 1120, 672]), size_divisibility=224)
