"""A small PIIP, DINO, on rendered scenes of four kinds of shapes.

python train_net.py --config-file configs/quick/dino_scenes.py
"""

from ..common.data.own import data
from ..common.models.quick_dino import model
from ..common.quick import lr_multiplier, optimizer, train
from ..common.quick_scenes import dataloader

model.num_classes = 4
dataloader.train.mapper.use_instance_mask = False
# Smaller batches give more steps in the same time.
dataloader.train.total_batch_size = train.auto_scale_lr.base_batch_size = 4
optimizer.lr = 1.5e-3
train.max_iter, train.eval_period, train.checkpointer.period = 700, 350, 350
train.init_checkpoint = "piip://efficientnet_lite0_stem.pth"
train.output_dir = "./output/quick/scenes_dino"
