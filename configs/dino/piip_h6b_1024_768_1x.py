"""PIIP-H6B 1024/768, DINO, 12 epochs of COCO at many scales.

The paper reports box AP 60.0; not reproduced here.
Wanted initial weights: MAE-H at 1024 and InternViT-6B at 768.

python train_net.py --config-file configs/dino/piip_h6b_1024_768_1x.py --num-gpus 8
"""

from ..common.dino_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.models.families import h6b
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, h6b([1024, 768]))
