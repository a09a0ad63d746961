"""Evaluating a sharded model."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import nn

from piip_d2.engine.evaluation import Evaluation
from piip_d2.engine.fully_sharded import gathered_for_evaluation
from piip_d2.engine.precision import Precision


class ShardedEvaluation(Evaluation):
    """Evaluation in the arithmetic of the training, with all weights gathered once.

    Args:
        cfg: The configuration.
        precision: Arithmetic in which the weights are gathered.
    """

    def __init__(self, cfg: DictConfig, precision: Precision) -> None:
        super().__init__(cfg)
        self._precision = precision
        self._reshards = bool(cfg.train.fsdp.reshard_after_forward)

    def _evaluate_weights(self, model: nn.Module) -> dict[str, Any]:
        gathered = gathered_for_evaluation(model, reshard_after_forward=self._reshards)
        with gathered, self._precision.autocast():
            return super()._evaluate_weights(model)
