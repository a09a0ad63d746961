"""A recipe for small networks from scratch, in minutes on a CPU."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from piip_d2.solver import warmup_fraction

from .optim import optimizer
from .train import train

optimizer.lr = 2e-3
# Decay along the layers protects what pre-training has learnt; here there is none.
optimizer.params.layer_decay = 1.0

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.02),
    warmup_factor=0.02,
    warmup_length=L(warmup_fraction)(num_iterations=60, max_iter="${train.max_iter}"),
    warmup_method="linear",
)

train.max_iter = 260
train.eval_period = 130
train.checkpointer.period = 130
train.auto_scale_lr.base_batch_size = 8
train.clip_grad.enabled = True
train.amp.enabled = True
