"""A small PIIP, Faster R-CNN, on aerial photographs with boxes around the crowns of trees.

python train_net.py --config-file configs/quick/faster_rcnn_trees.py
"""

from ..common.data.detection import set_image_size
from ..common.data.own import data
from ..common.data.trees import dataloader
from ..common.models.faster_rcnn import model
from ..common.models.quick_piip import IMAGE_SIZE, use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train

use_quick_piip(model, num_classes=1)
set_image_size(dataloader, long_side=IMAGE_SIZE, short_side=IMAGE_SIZE)
train.output_dir = "./output/quick/trees"
