"""A small PIIP, Faster R-CNN, on rendered scenes; a start for photographs with boxes alone.

python train_net.py --config-file configs/quick/faster_rcnn_scenes.py
"""

from ..common.data.own import data
from ..common.models.faster_rcnn import model
from ..common.models.quick_piip import use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train
from ..common.quick_scenes import dataloader

use_quick_piip(model, num_classes=4)
dataloader.train.mapper.use_instance_mask = False
train.output_dir = "./output/quick/scenes_boxes"
