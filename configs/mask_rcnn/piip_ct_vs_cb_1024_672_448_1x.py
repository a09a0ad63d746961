"""PIIP of ConvNeXt-T, ViT-S and ConvNeXt-B, 1024/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 46.7 and mask AP 42.0 at 297 GFLOPs; not reproduced here.
Wanted initial weights: ConvNeXt-T at 1024, DeiT III-S at 672 and ConvNeXt-B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_ct_vs_cb_1024_672_448_1x.py --num-gpus 8
"""

from ..common.hybrid_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.hybrid import set_networks

set_networks(model, "ct_vs_cb", [1024, 672, 448])
