"""The training loss of single images, as a measure of how hard a detector finds them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig, OmegaConf
from torch import nn

from piip_d2.data.image_reading import UnusableImageError
from piip_d2.data.mapper import PIIPDatasetMapper

__all__ = ["image_losses", "predicts_masks", "training_mapper"]

_logger = logging.getLogger(__name__)

_SEED = 0


def training_mapper(cfg: DictConfig, model: nn.Module) -> PIIPDatasetMapper:
    """Builds a mapper that prepares images as in testing, but with their objects.

    Args:
        cfg: The config of the run.
        model: Its detector; masks are prepared if it has a mask head.

    Returns:
        The mapper.
    """
    test = cfg.dataloader.test.mapper
    train = OmegaConf.select(cfg, "dataloader.train.mapper") or {}
    return PIIPDatasetMapper(
        is_train=True,
        augmentations=instantiate(test.augmentations),
        image_format=test.get("image_format", "RGB"),
        use_instance_mask=predicts_masks(model),
        instance_mask_format=train.get("instance_mask_format", "polygon"),
    )


def predicts_masks(model: nn.Module) -> bool:
    """Tells whether a detector of Detectron2's kind has a mask head."""
    return bool(getattr(getattr(model, "roi_heads", None), "mask_on", False))


@torch.no_grad()
def image_losses(
    model: nn.Module, records: Sequence[dict[str, Any]], mapper: PIIPDatasetMapper
) -> list[dict[str, float] | None]:
    """Computes the training losses of images one by one.

    The detector runs as in training, with its choice of proposals or noisy queries, but nothing
    is dropped, no statistics are updated, and every image begins with the same random numbers; so
    results can be repeated, and the order of the images does not matter.

    Args:
        model: A detector of Detectron2's kind, which returns its losses in training mode; its
            mode and the state of random numbers are what they were afterwards.
        records: The images, in Detectron2's dataset format.
        mapper: Prepares them, see `training_mapper`.

    Returns:
        For each image its losses by name; None for an image that cannot be used, or
        whose losses are not finite.
    """
    losses: list[dict[str, float] | None] = []
    devices = [parameter.device for parameter in model.parameters() if parameter.is_cuda][:1]
    # Detectron2's detectors may draw pictures at iteration 0.
    storage = EventStorage(start_iter=1)
    with _training_without_chance(model), torch.random.fork_rng(devices), storage:
        for record in records:
            torch.manual_seed(_SEED)
            try:
                sample = mapper({**record, "annotations": record.get("annotations", [])})
            except UnusableImageError as error:
                _logger.warning("%s has no loss: %s", record["file_name"], error)
                losses.append(None)
                continue
            losses.append(_finite_losses(model, sample))
    return losses


def _finite_losses(model: nn.Module, sample: dict[str, Any]) -> dict[str, float] | None:
    name = sample["file_name"]
    try:
        values = {key: float(value) for key, value in model([sample]).items()}
    except FloatingPointError as error:
        # Detectron2's proposal network refuses boxes that are not finite.
        _logger.warning("%s has no loss: %s", name, error)
        return None
    if all(map(math.isfinite, values.values())):
        return values
    _logger.warning("%s has no loss: it is not finite", name)
    return None


@contextmanager
def _training_without_chance(model: nn.Module) -> Iterator[None]:
    """Lets a detector compute losses while its layers work as in evaluation."""
    modes = {module: module.training for module in model.modules()}
    # Stochastic depth is in the backbone, which does nothing else by its mode.
    backbone = getattr(model, "backbone", None)
    steady = set(backbone.modules()) if isinstance(backbone, nn.Module) else set()
    try:
        for module in modes:
            module.training = module not in steady and not _changes_in_training(module)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _changes_in_training(module: nn.Module) -> bool:
    """Tells whether a layer drops something at random, or keeps statistics of its inputs."""
    drops = "drop" in type(module).__name__.lower() or isinstance(module, nn.MultiheadAttention)
    return drops or hasattr(module, "running_mean")
