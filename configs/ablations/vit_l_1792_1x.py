"""ViT-L 1792 alone, a window attention baseline, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 48.3 at 6458 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-L. Every third block attends globally.

python train_net.py --config-file configs/ablations/vit_l_1792_1x.py --num-gpus 8
"""

from ..common.models.branches import vit_large
from ..common.one_branch_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.pyramid import set_pyramid

set_pyramid(model, dataloader, [vit_large(1792, window_size=[14, 14, None] * 8)])
