"""ConvNeXt-B 1024 alone, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 42.4 and mask AP 38.7 at 321 GFLOPs; not reproduced here.
Wanted initial weights: ConvNeXt-B. Its maps are the outputs of its four stages.

python train_net.py --config-file configs/mask_rcnn/convnext_b_1024_1x.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, train
from ..common.models.branches import branch
from ..common.models.mask_rcnn_one_branch import model
from ..common.plain_adamw import optimizer
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, [branch("convnext_base", 1024)], out_interactions=[0, 1, 2])
model.backbone.bottom_up.interaction_block_indexes = [[2, 6, 34]]
