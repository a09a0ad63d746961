"""Small cascades on a small backbone, inputs for them, and the stored one."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import Tensor, nn

from tests.golden.cases import FOLDER
from tests.modeling.dino.tiny import SmallBackbone

MODELS = Path(__file__).resolve().parents[3] / "configs" / "common" / "models"
NUM_CLASSES = 7
NUM_STAGES = 3


def common_function(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"piip_d2.configs.common.models.{module}"), name)


use_mmdet_behaviour = common_function("cascade_as_mmdet", "use_mmdet_behaviour")
use_4conv1fc = common_function("cascade_4conv1fc", "use_4conv1fc")


@functools.cache
def _stored_config(name: str) -> DictConfig:
    return LazyConfig.load(str(MODELS / f"{name}.py")).model


def small_config(
    name: str = "cascade_mask_rcnn",
    *,
    channels: int = 16,
    fc_dim: int = 24,
    mask_dim: int = 12,
    backbone_channels: int = 8,
) -> DictConfig:
    """The config of a model with small heads on a small backbone."""
    model = LazyConfig.apply_overrides(_stored_config(name).copy(), [])
    model.backbone.bottom_up = L(SmallBackbone)(channels=backbone_channels)
    model.backbone.in_features = ["res2", "res3", "res4", "res5"]
    model.backbone.out_channels = channels
    model.proposal_generator.head.in_channels = channels
    model.proposal_generator.batch_size_per_image = 32
    model.proposal_generator.pre_nms_topk = [200, 200]
    model.proposal_generator.post_nms_topk = [60, 60]
    heads = model.roi_heads
    heads.num_classes = NUM_CLASSES
    heads.batch_size_per_image = 24
    for head in heads.box_heads:
        head.input_shape.channels = channels
        head.fc_dims = [fc_dim, fc_dim]
    for predictor in heads.box_predictors:
        predictor.input_shape.channels = fc_dim
    if "mask_head" in heads:
        heads.mask_head.input_shape.channels = channels
        heads.mask_head.conv_dims = [mask_dim] * 5
    return model


def make_config(kind: str) -> DictConfig:
    """One of the forms that a cascade can have."""
    cfg = small_config("cascade_rcnn" if "boxes" in kind else "cascade_mask_rcnn")
    if "4conv" in kind:
        use_4conv1fc(cfg, norm="BN")
    if "mmdet" in kind:
        use_mmdet_behaviour(cfg, mask_heads=1 if "one mask" in kind else 3)
        cfg.proposal_generator.post_nms_topk = [60, 60]
    if "as labelled" in kind:
        cfg.roi_heads.resample_proposals = False
    return cfg


def build(model: DictConfig, *, seed: int = 0) -> GeneralizedRCNN:
    torch.manual_seed(seed)
    return instantiate(model)


def disturb(module: nn.Module, scale: float = 0.05) -> None:
    """Moves all parameters, and the statistics of norms, away from where they start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.4, 2.0)


def make_input(
    num_objects: int, size: tuple[int, int] = (96, 128), seed: int = 3
) -> dict[str, Any]:
    """An image with objects, their boxes, classes and masks."""
    generator = torch.Generator().manual_seed(seed + num_objects)
    height, width = size
    corners = torch.rand(num_objects, 2, generator=generator) * torch.tensor([width, height]) * 0.5
    sides = 16 + torch.rand(num_objects, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[top:bottom, left : (left + right) // 2] = True
    objects = Instances(size)
    objects.gt_boxes = Boxes(boxes)
    objects.gt_classes = torch.randint(0, NUM_CLASSES, (num_objects,), generator=generator)
    objects.gt_masks = BitMasks(masks)
    image = torch.randint(0, 256, (3, height, width), generator=generator)
    return {"image": image, "height": height, "width": width, "instances": objects}


def make_batch(counts: Sequence[int]) -> list[dict[str, Any]]:
    return [make_input(count, seed=3 + 10 * place) for place, count in enumerate(counts)]


def losses_of(
    model: nn.Module, batch: list[dict[str, Any]], *, seed: int = 5
) -> tuple[dict[str, Tensor], EventStorage]:
    """Losses under one seed for the sampling, and what was logged."""
    torch.manual_seed(seed)
    with EventStorage() as storage:
        return model.train()(batch), storage


def gradients_of(model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Tensor | None]:
    model.zero_grad()
    losses, _ = losses_of(model, batch)
    torch.stack(list(losses.values())).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@functools.cache
def load_golden() -> dict[str, Any]:
    """The stored data; for reading only."""
    return torch.load(FOLDER / "cascade_mask_rcnn_tiny.pt", weights_only=True)
