"""PIIP of ViT-T, ViT-S and ViT-B, 1024/672/448, Mask R-CNN, 12 epochs of COCO.

The paper reports box AP 44.3 and mask AP 39.9 at 225 GFLOPs; not reproduced here.
There is no released configuration; this one is what the seven others have in common.
Wanted initial weights: DeiT-Ti at 1024, DeiT III-S at 672 and DeiT III-B at 448.

python train_net.py --config-file configs/mask_rcnn/piip_vt_vs_vb_1024_672_448_1x.py --num-gpus 8
"""

from ..common.hybrid_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.hybrid import set_networks

set_networks(model, "vt_vs_vb", [1024, 672, 448])
