"""The memory of what a configuration describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from piip_d2.analysis.configs import build_without_numbers
from piip_d2.analysis.detectors import find_network
from piip_d2.analysis.memory.estimate import MemoryEstimate, Setting, estimate_memory
from piip_d2.analysis.memory.trace import Batch
from piip_d2.engine import load_config
from piip_d2.engine.build import build_precision, set_activation_checkpointing
from piip_d2.engine.fully_sharded import check_fsdp

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Question:
    """What is asked about a configuration. None leaves to the configuration what it says.

    Args:
        image_size: Height and width in pixels; None for a square of the largest resolution.
        batch_size: Images per process; None for its share of the configuration's batch in training,
            and 1 in inference.
        mode: ``"training"`` or ``"inference"``.
        precision: A key of :data:`PRECISIONS`.
        act_checkpoint: False, True or the name of a mode, for all parts.
        strategy: See :class:`Setting`; None for "single" with one process, with more of them for
            "fsdp" if ``train.fsdp`` is enabled, else "ddp".
        world_size: See there.
        cpu_offload: See there.
        num_objects: Objects in every image.
        device: ``"cuda"`` for attention that keeps what it keeps on GPUs, and optimizers that go
            through many weights at once, as they do there if they are not told otherwise;
            ``"cpu"`` for one after the other.
    """

    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    mode: str = "training"
    precision: str | None = None
    act_checkpoint: bool | str | None = None
    strategy: str | None = None
    world_size: int = 1
    cpu_offload: bool | None = None
    num_objects: int = 10
    device: str = "cpu"


def estimate_config(
    config_file: str, question: Question, overrides: Sequence[str] = ()
) -> tuple[Setting, MemoryEstimate]:
    """Predicts the memory that one process needs.

    Args:
        config_file: The configuration.
        question: What is asked.
        overrides: ``KEY=VALUE`` each.

    Returns:
        What was understood, and the prediction.

    Raises:
        ValueError: If an override or a number is wrong, or there is no rule for the model.
        OSError: If the file cannot be read.
    """
    model = build_without_numbers(config_file, overrides)
    cfg = load_config(config_file, list(overrides))
    mode = question.act_checkpoint
    if mode is None:
        # The switch of the section adds to those of the parts.
        mode = cfg.train.activation_checkpointing or None
    if mode is not None:
        set_activation_checkpointing(model.modules(), mode)
    setting = _setting(cfg, model, question)

    def make_optimizer(copied: nn.Module) -> torch.optim.Optimizer:
        cfg.optimizer.params.model = copied
        optimizer: torch.optim.Optimizer = instantiate(cfg.optimizer)
        for group in optimizer.param_groups:
            if group.get("foreach", False) is None and not group.get("fused"):
                group["foreach"] = question.device == "cuda"
        return optimizer

    return setting, estimate_memory(model, setting, make_optimizer)


def _setting(cfg: DictConfig, model: nn.Module, question: Question) -> Setting:
    fsdp = cfg.train.fsdp
    if question.strategy is not None:
        fsdp.enabled = question.strategy == "fsdp"
    check_fsdp(cfg)
    strategy = question.strategy or _strategy(cfg, question.world_size)
    cpu_offload = question.cpu_offload
    if cpu_offload is None:
        cpu_offload = strategy == "fsdp" and bool(fsdp.cpu_offload)
    batch = Batch(
        question.image_size or _largest_square(model),
        question.batch_size or _share_of_batch(cfg, question),
        PRECISIONS[question.precision or _precision(cfg)],
        question.num_objects,
        question.device,
    )
    return Setting(
        batch,
        mode=question.mode,
        strategy=strategy,
        world_size=question.world_size,
        keeps_gradients=cfg.train.accumulate > 1,
        has_average=bool(cfg.train.ema.enabled),
        cpu_offload=cpu_offload,
        param_dtype=None if question.precision else PRECISIONS[fsdp.param_dtype],
        reduce_dtype=PRECISIONS[fsdp.reduce_dtype],
        reshard_after_forward=bool(fsdp.reshard_after_forward),
        exchange_every_batch=bool(fsdp.exchange_every_batch),
    )


def _strategy(cfg: DictConfig, world_size: int) -> str:
    if world_size == 1:
        return "single"
    return "fsdp" if cfg.train.fsdp.enabled else "ddp"


def _precision(cfg: DictConfig) -> str:
    # No device is used, and none is asked whether it has the arithmetic.
    cfg.train.device = "meta"
    return build_precision(cfg).name


def _share_of_batch(cfg: DictConfig, question: Question) -> int:
    if question.mode == "inference":
        return 1
    loader: Any = cfg.dataloader.train
    return max(1, int(loader.get("total_batch_size", 1)) // question.world_size)


def _largest_square(model: nn.Module) -> tuple[int, int]:
    branches: Any = find_network(model).branches
    side = int(branches[-1].img_size)
    return side, side
