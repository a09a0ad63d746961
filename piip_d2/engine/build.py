"""The parts of a run, built from its configuration."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine.defaults import create_ddp_model
from omegaconf import DictConfig
from torch import nn

from piip_d2.engine.ema import ExponentialMovingAverage
from piip_d2.engine.environment import FILE_LOGGER
from piip_d2.engine.overrides import accepts_argument
from piip_d2.engine.precision import Precision
from piip_d2.engine.seeding import seed_everything
from piip_d2.engine.trainer import GradientClipping, Trainer

logger = logging.getLogger(__name__)

_ACTIVATION_SWITCH = "use_act_checkpoint"


def build_model(cfg: DictConfig) -> nn.Module:
    """Builds the model on its device, with activation checkpointing if that is asked for."""
    # The same in all processes, and whatever drew random numbers before.
    seed_everything(cfg.train.seed)
    model: nn.Module = instantiate(cfg.model).to(cfg.train.device)
    logging.getLogger(FILE_LOGGER).info("Model:\n%s", model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    logger.info("%.2f M parameters, %.2f M of them trained.", total / 1e6, trained / 1e6)
    if cfg.train.activation_checkpointing:
        enable_activation_checkpointing(model)
    return model


def enable_activation_checkpointing(model: nn.Module) -> int:
    """Sets ``use_act_checkpoint`` on every module that has it, and returns how many have."""
    count = set_activation_checkpointing(model.modules(), True)
    if count:
        logger.info("Activations of %d modules are recomputed in the backward pass.", count)
    else:
        logger.warning(
            "train.activation_checkpointing is on, but no module of this model offers it."
        )
    return count


def set_activation_checkpointing(modules: Iterable[nn.Module], is_on: bool) -> int:
    """Sets ``use_act_checkpoint`` on those modules that have it, and returns how many have."""
    switched = [module for module in modules if hasattr(module, _ACTIVATION_SWITCH)]
    for module in switched:
        setattr(module, _ACTIVATION_SWITCH, is_on)
    return len(switched)


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimiser and scales its learning rates with the batch if that is asked for."""
    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    if cfg.train.auto_scale_lr.enabled:
        factor = learning_rate_factor(cfg)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        logger.info("All learning rates are multiplied by %g for the size of the batch.", factor)
    return optimizer


def learning_rate_factor(cfg: DictConfig) -> float:
    """Computes the factor for the learning rate that ``train.auto_scale_lr`` asks for.

    Args:
        cfg: The whole configuration.

    Returns:
        What all learning rates are to be multiplied by.

    Raises:
        ValueError: If the batch size or the rule is not known.
    """
    options = cfg.train.auto_scale_lr
    if "total_batch_size" not in cfg.dataloader.train:
        raise ValueError(
            "train.auto_scale_lr needs dataloader.train.total_batch_size in the config"
        )
    batch = cfg.dataloader.train.total_batch_size * cfg.train.accumulate
    ratio = float(batch) / options.base_batch_size
    if options.rule == "linear":
        return ratio
    if options.rule == "sqrt":
        return math.sqrt(ratio)
    raise ValueError(f"train.auto_scale_lr.rule must be 'linear' or 'sqrt', got {options.rule!r}")


def build_ema(cfg: DictConfig, model: nn.Module) -> ExponentialMovingAverage | None:
    """Builds the moving average of the weights if the configuration wants one."""
    if not cfg.train.ema.enabled:
        return None
    return ExponentialMovingAverage(model, cfg.train.ema.decay, cfg.train.ema.warmup)


def build_trainer(cfg: DictConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> Trainer:
    """Builds the training loop, around a data-parallel model where there are several processes."""
    device = torch.device(cfg.train.device)
    ddp: dict[str, Any] = dict(cfg.train.ddp)
    if device.type == "cpu":
        ddp["device_ids"] = None
    clip = cfg.train.clip_grad
    return Trainer(
        create_ddp_model(model, **ddp),
        optimizer,
        precision=Precision(cfg.train.amp.dtype if cfg.train.amp.enabled else "fp32", device),
        seed=cfg.train.seed,
        accumulate=cfg.train.accumulate,
        clipping=GradientClipping(clip.max_norm, clip.norm_type) if clip.enabled else None,
        metric_window=max(20, cfg.train.log_period),
    )


def build_train_loader(cfg: DictConfig, *, first_iteration: int) -> Any:
    """Builds the training data, beginning where a resumed run left off.

    Args:
        cfg: The configuration; a seed in the loader's own section comes before the run's.
        first_iteration: The iteration that gets the first batches.

    Returns:
        An endless iterable of batches.
    """
    section = cfg.dataloader.train
    if accepts_argument(section, "seed") and section.get("seed", None) is None:
        section.seed = cfg.train.seed
    if accepts_argument(section, "start_iteration"):
        section.start_iteration = first_iteration * cfg.train.accumulate
    elif first_iteration > 0:
        logger.warning(
            "dataloader.train takes no start_iteration, so this resumed run sees other samples "
            "than an uninterrupted one would."
        )
    return instantiate(section)
