"""ViT-B 1024 alone, a window attention baseline, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 43.8 and mask AP 39.9 at 463 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-B. Every third block attends globally.

python train_net.py --config-file configs/mask_rcnn/vit_b_1024_1x.py --num-gpus 8
"""

from ..common.models.branches import vit_base
from ..common.one_branch_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, [vit_base(1024, window_size=[14, 14, None] * 4)])
