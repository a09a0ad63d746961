"""A small PIIP, Mask R-CNN, on rendered scenes of four kinds of shapes.

python train_net.py --config-file configs/quick/mask_rcnn_scenes.py
"""

from ..common.data.detection import set_image_size
from ..common.data.own import data
from ..common.data.scenes import dataloader
from ..common.models.mask_rcnn import model
from ..common.models.quick_piip import IMAGE_SIZE, use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train

use_quick_piip(model, num_classes=4)
set_image_size(dataloader, long_side=IMAGE_SIZE, short_side=IMAGE_SIZE)
train.output_dir = "./output/quick/scenes"
