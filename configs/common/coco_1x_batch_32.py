"""The released recipe on COCO with 32 images a batch, for 16 GPUs, at twice the learning rate."""

from .coco_1x import EPOCHS, data, dataloader, lr_multiplier, optimizer, train

# 117,266 training images have annotations: 3664.6 batches of 32.
ITERATIONS_PER_EPOCH = 3665

dataloader.train.total_batch_size = 32
optimizer.lr = 2e-4
train.max_iter = EPOCHS * ITERATIONS_PER_EPOCH
train.eval_period = ITERATIONS_PER_EPOCH
train.checkpointer.period = ITERATIONS_PER_EPOCH
train.auto_scale_lr.base_batch_size = 32
train.presets.one_gpu = [
    text.replace("train.accumulate=8", "train.accumulate=16") for text in train.presets.one_gpu
]
