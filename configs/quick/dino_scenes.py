"""A small PIIP, DINO, on rendered scenes of four kinds of shapes.

python train_net.py --config-file configs/quick/dino_scenes.py
"""

from ..common.data.detection import set_image_size
from ..common.data.own import data
from ..common.data.scenes import dataloader
from ..common.models.quick_dino import model
from ..common.models.quick_piip import IMAGE_SIZE as side
from ..common.quick import lr_multiplier, optimizer, train

model.num_classes = 4
set_image_size(dataloader, long_side=side, short_side=side)
dataloader.train.mapper.use_instance_mask = False
train.max_iter, train.eval_period, train.checkpointer.period = 700, 350, 350
train.output_dir = "./output/quick/scenes_dino"
