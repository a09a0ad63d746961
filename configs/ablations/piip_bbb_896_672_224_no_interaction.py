r"""Three Base networks on an image pyramid of 896/672/224, merged at the end and nowhere else.

The paper reports box AP 43.8 and mask AP 38.2 at 457 GFLOPs; not reproduced here.
Wanted initial weights: DeiT III-B for each of 896, 672, 224 pixels.

python train_net.py --config-file configs/ablations/piip_bbb_896_672_224_no_interaction.py \
    --num-gpus 8
"""

from ..common.coco_1x import data, dataloader, lr_multiplier, optimizer, train
from ..common.models.branches import deit
from ..common.models.mask_rcnn import model
from ..common.pyramid import set_pyramid

branches = deit("bbb", [896, 672, 224], window_size=14)
set_pyramid(model, dataloader, branches, num_interactions=0)
