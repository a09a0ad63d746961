"""PIIP-LH6B 1536/1024/512, DINO, 24 epochs of COCO at many scales.

Its 4 interactions have neither projections nor norms. The authors report no AP of this size.
Wanted initial weights: DeiT III-L at 1536, pre-trained at 384, MAE-H at 1024, InternViT-6B at 512.

python train_net.py --config-file configs/dino/piip_lh6b_1536_1024_512_2x.py --num-gpus 8
"""

from ..common.dino_1x import ITERATIONS_PER_EPOCH, data, dataloader, model, optimizer, train
from ..common.models.families import lh6b
from ..common.pyramid import set_multi_scale_pyramid
from ..common.schedule import step_schedule

model.backbone.bottom_up.with_projection = model.backbone.bottom_up.with_norm = False
branches = lh6b([1536, 1024, 512], act="gelu_tanh")
set_multi_scale_pyramid(model, dataloader, branches, num_interactions=4)
lr_multiplier = step_schedule(24, [16, 22])
train.max_iter = 24 * ITERATIONS_PER_EPOCH
