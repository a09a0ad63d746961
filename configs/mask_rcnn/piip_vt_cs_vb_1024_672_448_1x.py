"""PIIP of ViT-T, ConvNeXt-S and ViT-B, 1024/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 45.4 and mask AP 40.9 at 291 GFLOPs; not reproduced here.
Wanted initial weights: DeiT-Ti at 1024, ConvNeXt-S at 672 and DeiT III-B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_vt_cs_vb_1024_672_448_1x.py --num-gpus 8
"""

from ..common.hybrid_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.hybrid import set_networks

set_networks(model, "vt_cs_vb", [1024, 672, 448])
