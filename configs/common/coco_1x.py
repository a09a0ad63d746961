"""The released recipe on COCO but for the architecture: 12 epochs, 16 images a batch, AdamW.

The released models were trained in bfloat16 on 8 GPUs: ``--num-gpus 8 train.amp.enabled=True``.
On one GPU, ``train.preset=one_gpu`` makes up the same batch of 2 images at a time. All of this
starts from random weights unless ``train.init_checkpoint`` names a checkpoint.
"""

from .data.detection import detection_dataloader
from .data.own import data
from .optim import optimizer
from .schedule import step_schedule
from .train import train

EPOCHS = 12
# 117,266 training images have annotations: 7329.1 batches of 16.
ITERATIONS_PER_EPOCH = 7330

dataloader = detection_dataloader(
    train="coco_2017_train", test="coco_2017_val", total_batch_size=16
)
lr_multiplier = step_schedule(EPOCHS, [8, 11], warmup_iterations=500)
train.max_iter = EPOCHS * ITERATIONS_PER_EPOCH
train.eval_period = ITERATIONS_PER_EPOCH
train.checkpointer.period = ITERATIONS_PER_EPOCH
