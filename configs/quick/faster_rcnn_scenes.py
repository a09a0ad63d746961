"""A small PIIP, Faster R-CNN, on rendered scenes; a start for photographs with boxes alone.

python train_net.py --config-file configs/quick/faster_rcnn_scenes.py
"""

from ..common.data.detection import set_image_size
from ..common.data.own import data
from ..common.data.scenes import dataloader
from ..common.models.faster_rcnn import model
from ..common.models.quick_piip import IMAGE_SIZE, use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train

use_quick_piip(model, num_classes=4)
set_image_size(dataloader, long_side=IMAGE_SIZE, short_side=IMAGE_SIZE)
dataloader.train.mapper.use_instance_mask = False
train.output_dir = "./output/quick/scenes_boxes"
