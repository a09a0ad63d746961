"""A whole configuration for the toy detector."""

from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import CosineParamScheduler

from tests.engine.toys import (
    ToyDetector,
    ToyEvaluator,
    build_toy_optimizer,
    build_toy_test_loader,
    build_toy_train_loader,
)

model = L(ToyDetector)(width=8)
dataloader = dict(
    train=L(build_toy_train_loader)(total_batch_size=4, num_workers=0),
    test=L(build_toy_test_loader)(),
    evaluator=L(ToyEvaluator)(),
)
optimizer = L(build_toy_optimizer)(params=dict(), lr=0.01)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=0.1)
train = dict(
    max_iter=12,
    device="cpu",
    eval_period=0,
    log_period=1,
    tensorboard=False,
    checkpointer=dict(period=4, max_to_keep=3),
)
