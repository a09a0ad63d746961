"""ViT-B 1024 alone, trained at many scales: what an image pyramid in training alone gives.

The paper reports box AP 44.8 and mask AP 41.0 at 463 GFLOPs; not reproduced here.
Its scales are not published: they are those of PIIP's own models. Initial weights: DeiT III-B.

python train_net.py --config-file configs/ablations/vit_b_1024_1x_ms.py --num-gpus 8
"""

from ..common.models.branches import vit_base
from ..common.one_branch_1x import data, dataloader, lr_multiplier, model, optimizer, train
from ..common.pyramid import set_multi_scale_pyramid

set_multi_scale_pyramid(model, dataloader, [vit_base(1024, window_size=[14, 14, None] * 4)])
