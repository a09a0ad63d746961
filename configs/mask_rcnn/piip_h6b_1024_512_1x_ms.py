"""PIIP-H6B 1024/512, Mask R-CNN, 12 epochs of COCO at many scales.

The authors' repository reports box AP 55.8 and mask AP 49.0; not reproduced here.
Wanted initial weights: MAE-H at 1024 and InternViT-6B at 512.
Training takes 117 GB per GPU for weights, gradients and AdamW's state alone.

python train_net.py --config-file configs/mask_rcnn/piip_h6b_1024_512_1x_ms.py --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import h6b
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, h6b([1024, 512]))
