"""A small PIIP, Cascade Mask R-CNN, on rendered scenes of four kinds of shapes.

python train_net.py --config-file configs/quick/cascade_rcnn_scenes.py
"""

from ..common.data.own import data
from ..common.models.quick_cascade import model
from ..common.quick import lr_multiplier, optimizer, train
from ..common.quick_scenes import dataloader

model.roi_heads.num_classes = 4
train.output_dir = "./output/quick/scenes_cascade"
