r"""PIIP-SBL 1568/1120/672, Cascade R-CNN, 12 epochs of COCO.

Our own recipe. With masks the paper has box AP 53.6 at unnamed sizes; not reproduced here.
As piip_sbl_1568_1120_672_1x, with its initial weights, but without masks.

python train_net.py --config-file configs/cascade_rcnn/piip_sbl_1568_1120_672_1x_boxes.py \
    --num-gpus 8
"""

from ..common.cascade_boxes_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.branches import sbl
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, sbl([1568, 1120, 672]))
