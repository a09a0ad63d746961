"""PIIP of ViT-T, ViT-S and ConvNeXt-B, 1024/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 44.8 and mask AP 40.3 at 193 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti at 1024, DeiT III-S at 672 and ConvNeXt-B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_vt_vs_cb_1024_672_448_1x.py --num-gpus 8
"""

from ..common.hybrid_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.hybrid import set_networks

set_networks(model, "vt_vs_cb", [1024, 672, 448])
