"""A small PIIP, Faster R-CNN, on aerial photographs with boxes around the crowns of trees.

python train_net.py --config-file configs/quick/faster_rcnn_trees.py
"""

from ..common.data.own import data
from ..common.data.trees import dataloader
from ..common.models.faster_rcnn import model
from ..common.models.quick_piip import expect_many_small_objects, use_quick_piip
from ..common.quick import lr_multiplier, optimizer, train

use_quick_piip(model, num_classes=1, pretrained_stems=True)
expect_many_small_objects(model)
train.max_iter, train.eval_period, train.checkpointer.period = 320, 160, 160
train.init_checkpoint = "piip://efficientnet_lite0_stem.pth"
train.output_dir = "./output/quick/trees"
