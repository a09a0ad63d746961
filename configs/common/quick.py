"""A recipe for small networks from scratch, in minutes on a CPU."""

from .optim import optimizer
from .schedule import step_schedule
from .train import train

optimizer.lr = 5e-4
# Decay along the layers protects what pre-training has learnt; here there is none.
optimizer.params.layer_decay = 1.0

lr_multiplier = step_schedule(12, [8, 11], warmup_iterations=25)

train.max_iter = 240
train.eval_period = 120
train.checkpointer.period = 120
train.clip_grad.enabled = True
