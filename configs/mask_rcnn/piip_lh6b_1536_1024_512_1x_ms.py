"""PIIP-LH6B 1536/1024/512, Mask R-CNN, 12 epochs of COCO at many scales, 32 images a batch.

Its 4 interactions have neither projections nor norms. The authors report no AP of this size.
Wanted initial weights: DeiT III-L of 384 pixels at 1536, MAE-H at 1024 and InternViT-6B at 512.
Training takes 120 GB per GPU for weights, gradients and AdamW's state alone.

python train_net.py --config-file configs/mask_rcnn/piip_lh6b_1536_1024_512_1x_ms.py --num-gpus 8
"""

from ..common.coco_1x_batch_32 import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.families import lh6b
from ..common.models.mask_rcnn_fast import model
from ..common.pyramid import set_multi_scale_pyramid

branches = lh6b([1536, 1024, 512], act="gelu_tanh")
set_multi_scale_pyramid(model, dataloader, branches, num_interactions=4)
