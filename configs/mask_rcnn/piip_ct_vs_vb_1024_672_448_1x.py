"""PIIP of ConvNeXt-T, ViT-S and ViT-B, 1024/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 47.1 and mask AP 42.4 at 373 GFLOPs; not reproduced here.
Wanted initial weights: ConvNeXt-T at 1024, DeiT III-S at 672 and DeiT III-B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_ct_vs_vb_1024_672_448_1x.py --num-gpus 8
"""

from ..common.hybrid_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.hybrid import set_networks

set_networks(model, "ct_vs_vb", [1024, 672, 448])
