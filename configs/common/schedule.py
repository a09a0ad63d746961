"""Learning-rate schedules: linear warm-up, then drops by ten."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import DictConfig

from piip_d2.solver import warmup_fraction


def step_schedule(
    num_epochs: int, drop_epochs: Sequence[int], *, warmup_iterations: int = 500
) -> DictConfig:
    """Multiplier of the learning rate over a run of ``train.max_iter`` iterations.

    Args:
        num_epochs: Length of the run, in any unit: the drops scale with ``train.max_iter``.
        drop_epochs: Where the rate drops by ten, in the same unit.
        warmup_iterations: Length of the warm-up, which does not scale.
    """
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[10.0**-drops for drops in range(len(drop_epochs) + 1)],
            milestones=list(drop_epochs),
            num_updates=num_epochs,
        ),
        warmup_factor=0.001,
        warmup_length=L(warmup_fraction)(
            num_iterations=warmup_iterations, max_iter="${train.max_iter}"
        ),
        warmup_method="linear",
    )
