"""PIIP-SBL 1792/1120/672, DINO, 36 epochs of COCO at many scales.

The paper reports box AP 57.9, its repository 57.8; not reproduced here.
Wanted initial weights: DeiT III-S at 1792, B at 1120 and L at 672, pre-trained at 384 pixels.

python train_net.py --config-file configs/dino/piip_sbl_1792_1120_672_3x.py --num-gpus 8
"""

from ..common.dino_1x import ITERATIONS_PER_EPOCH, data, dataloader, model, optimizer, train
from ..common.models.families import deit_384_sbl
from ..common.pyramid import set_multi_scale_pyramid
from ..common.schedule import step_schedule

branches = deit_384_sbl([1792, 1120, 672])
set_multi_scale_pyramid(model, dataloader, branches, size_divisibility=224)
model.pixel_mean, model.pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
lr_multiplier = step_schedule(36, [27, 33])
train.max_iter = 36 * ITERATIONS_PER_EPOCH
