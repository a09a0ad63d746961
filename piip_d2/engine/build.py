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
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from piip_d2.engine.ema import ExponentialMovingAverage
from piip_d2.engine.fully_sharded import build_sharded, is_sharded, separate_whole_parameters
from piip_d2.engine.overrides import accepts_argument
from piip_d2.engine.precision import Precision
from piip_d2.engine.run_log import FILE_LOGGER
from piip_d2.engine.seeding import seed_everything
from piip_d2.engine.trainer import GradientClipping, Trainer

logger = logging.getLogger(__name__)

_ACTIVATION_SWITCH = "use_act_checkpoint"


def build_model(cfg: DictConfig, *, sharded: bool = False) -> nn.Module:
    """Builds the model on its device, with activation checkpointing if that is asked for.

    Args:
        cfg: The configuration.
        sharded: Whether to shard it over the processes; its weights then have no values yet.

    Returns:
        The model.
    """
    if sharded:
        model = build_sharded(
            lambda: instantiate(cfg.model), cfg.train.fsdp, device=cfg.train.device
        )
    else:
        model = build_whole_model(cfg).to(cfg.train.device)
    logging.getLogger(FILE_LOGGER).info("Model:\n%s", model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    logger.info("%.2f M parameters, %.2f M of them trained.", total / 1e6, trained / 1e6)
    if cfg.train.activation_checkpointing:
        enable_activation_checkpointing(model, cfg.train.activation_checkpointing)
    return model


def build_whole_model(cfg: DictConfig) -> nn.Module:
    """Builds the model on the CPU, with the random weights of the run's seed."""
    # The same in all processes, and whatever drew random numbers before.
    seed_everything(cfg.train.seed)
    model: nn.Module = instantiate(cfg.model)
    return model


def enable_activation_checkpointing(model: nn.Module, mode: bool | str = True) -> int:
    """Sets ``use_act_checkpoint`` on every module that has it, and returns how many have."""
    count = set_activation_checkpointing(model.modules(), mode)
    if count:
        name = "block" if mode is True else mode
        logger.info(
            "Activations of %d modules are recomputed in the backward pass: %s.", count, name
        )
    else:
        logger.warning(
            "train.activation_checkpointing is on, but no module of this model offers it."
        )
    return count


def set_activation_checkpointing(modules: Iterable[nn.Module], mode: bool | str) -> int:
    """Sets ``use_act_checkpoint`` on those modules that have it, and returns how many have."""
    switched = [module for module in modules if hasattr(module, _ACTIVATION_SWITCH)]
    for module in switched:
        setattr(module, _ACTIVATION_SWITCH, mode)
    return len(switched)


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimiser and scales its learning rates with the batch if that is asked for."""
    cfg.optimizer.params.model = model
    optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
    if cfg.train.fsdp.enabled:
        separate_whole_parameters(optimizer)
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
    clip = cfg.train.clip_grad
    return Trainer(
        model if is_sharded(model) else _data_parallel(cfg, model),
        optimizer,
        precision=build_precision(cfg),
        seed=cfg.train.seed,
        accumulate=cfg.train.accumulate,
        clipping=GradientClipping(clip.max_norm, clip.norm_type) if clip.enabled else None,
        metric_window=max(20, cfg.train.log_period),
        exchange_every_batch=cfg.train.fsdp.exchange_every_batch,
    )


def build_precision(cfg: DictConfig) -> Precision:
    """Builds the arithmetic of the forward pass; weights gathered in bf16 need it in bf16."""
    name = cfg.train.amp.dtype if cfg.train.amp.enabled else "fp32"
    if cfg.train.fsdp.enabled and cfg.train.fsdp.param_dtype != "fp32":
        name = cfg.train.fsdp.param_dtype
    return Precision(name, torch.device(cfg.train.device))


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


def _data_parallel(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """Wraps a model for several processes, each of which keeps all of it."""
    options: dict[str, Any] = dict(cfg.train.ddp)
    compresses_to_bf16 = options.pop("bf16_compression")
    if compresses_to_bf16 and options["fp16_compression"]:
        raise ValueError(
            "train.ddp has both bf16_compression and fp16_compression; gradients travel in one of "
            "the two"
        )
    if torch.device(cfg.train.device).type == "cpu":
        options["device_ids"] = None
    wrapped: nn.Module = create_ddp_model(model, **options)
    if compresses_to_bf16 and isinstance(wrapped, DistributedDataParallel):
        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped
