"""Training and evaluation on top of Detectron2's engine."""

from __future__ import annotations

from piip_d2.engine.checkpointer import (
    AtomicCheckpointer,
    BestWeightsCheckpointer,
    CheckpointReadError,
    CheckpointSaveError,
)
from piip_d2.engine.config import default_train_section, load_config
from piip_d2.engine.ema import EMAHook, ExponentialMovingAverage
from piip_d2.engine.environment import environment_report, resolve_device, set_up_run
from piip_d2.engine.evaluation import Evaluation
from piip_d2.engine.overrides import apply_overrides
from piip_d2.engine.precision import Precision
from piip_d2.engine.pretrained import PretrainedWeights
from piip_d2.engine.processes import launch
from piip_d2.engine.run import evaluate_checkpoint, train
from piip_d2.engine.trainer import GradientClipping, Trainer

__all__ = [
    "AtomicCheckpointer",
    "BestWeightsCheckpointer",
    "CheckpointReadError",
    "CheckpointSaveError",
    "EMAHook",
    "Evaluation",
    "ExponentialMovingAverage",
    "GradientClipping",
    "Precision",
    "PretrainedWeights",
    "Trainer",
    "apply_overrides",
    "default_train_section",
    "environment_report",
    "evaluate_checkpoint",
    "launch",
    "load_config",
    "resolve_device",
    "set_up_run",
    "train",
]
