"""InternViT-6B 1024 alone, Mask R-CNN, 12 epochs of COCO at many scales.

The paper reports box AP 53.8 and mask AP 48.1 at 24418 GFLOPs, with windows; not reproduced here.
The authors' repository reports the same with global attention, which is what this is.
Wanted initial weights: InternViT-6B. Training takes 96 GB per GPU for weights, gradients and
AdamW's state alone.

python train_net.py --config-file configs/mask_rcnn/intern_vit_6b_1024_1x_ms.py --num-gpus 8
"""

from ..common.models.families import intern_vit_6b
from ..common.one_branch_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, intern_vit_6b(1024))
