"""The structure of PIIP-H6B, small, Mask R-CNN, to try fully sharded training: docs/DISTRIBUTED.md.

python train_net.py --config-file configs/quick/mask_rcnn_h6b_structure_scenes.py --num-gpus 4
"""

from ..common.data.detection import set_image_size
from ..common.data.own import data
from ..common.models.mask_rcnn import model
from ..common.models.quick_h6b import IMAGE_SIZE, use_quick_h6b
from ..common.quick import lr_multiplier, optimizer, train
from ..common.quick_scenes import dataloader

use_quick_h6b(model, num_classes=4)
set_image_size(dataloader, long_side=IMAGE_SIZE, short_side=IMAGE_SIZE)
# So runs in any number of processes stay comparable: Adam must not make steps of rounding errors.
optimizer.update(lr=1e-4, eps=1e-5)
train.amp.enabled = False
train.fsdp = dict(enabled=True, param_dtype="fp32")
train.activation_checkpointing = "block"
train.output_dir = "./output/quick/h6b_structure"
