r"""PIIP-SBL 1568/1120/672, Cascade Mask R-CNN with the heads of ViT-Adapter, 12 epochs.

Our own recipe. Heads have convolutions with SyncBN and boxes per class, which need GPUs to train.
As piip_sbl_1568_1120_672_1x_as_mmdet in all else, so that weights of mmdetection fit here, too.

python train_net.py --config-file configs/cascade_rcnn/piip_sbl_1568_1120_672_1x_4conv_as_mmdet.py \
    --num-gpus 8
"""

from ..common.models.cascade_4conv1fc import use_4conv1fc
from .piip_sbl_1568_1120_672_1x_as_mmdet import (
    data,
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_4conv1fc(model, norm="SyncBN")
