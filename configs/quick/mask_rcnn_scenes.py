"""A small PIIP, Mask R-CNN, on rendered scenes of four kinds of shapes.

python train_net.py --config-file configs/quick/mask_rcnn_scenes.py
"""

from ..common.data.own import data
from ..common.models.mask_rcnn import model
from ..common.models.quick_piip import use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train
from ..common.quick_scenes import dataloader

use_quick_piip(model, num_classes=4)
train.output_dir = "./output/quick/scenes"
