"""Measures the memory of real steps on a CPU, each in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from piip_d2.analysis.detectors import stages_of
from piip_d2.analysis.memory.trace import Batch
from piip_d2.engine import load_config
from piip_d2.engine.build import build_optimizer, set_activation_checkpointing
from piip_d2.engine.host_memory import reset_resident_peak, resident_bytes

# With thresholds set, glibc maps every large tensor by itself and gives it back when it is freed.
# Left alone it keeps freed memory for later, and the size of a process says less of its tensors.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_STEPS = 2


@dataclass(frozen=True)
class Experiment:
    """What is measured.

    Args:
        config_file: The configuration.
        batch: What a step is run on.
        warm_up: A configuration of a small detector of the same kind, which runs first at
            ``warm_up_size`` pixels: code and work space of libraries that it loads do not count.
        warm_up_size: Side of its image in pixels.
        mode: ``"training"`` or ``"inference"``.
        act_checkpoint: What is recomputed; None for what the configuration says.
        overrides: ``KEY=VALUE`` each.
    """

    config_file: str
    batch: Batch
    warm_up: str
    warm_up_size: int = 256
    mode: str = "training"
    act_checkpoint: bool | str | None = None
    overrides: Sequence[str] = ()


def measure_peak(experiment: Experiment, malloc: Mapping[str, str] | None = None) -> int:
    """Runs two steps in a process of its own, with one thread.

    Args:
        experiment: What is measured.
        malloc: Environment of the process beside this one's; None for :data:`MALLOC`.

    Returns:
        The most that the process has grown by, in bytes: weights and all.
    """
    context = multiprocessing.get_context("spawn")
    with _environment(MALLOC if malloc is None else malloc), context.Pool(1) as pool:
        return pool.apply(_measure, (experiment,))


def make_inputs(model: nn.Module, batch: Batch) -> list[dict[str, Any]]:
    """Makes images of noise with objects, as a mapper gives them.

    Args:
        model: The detector.
        batch: Sizes and numbers.

    Returns:
        One dict per image. Objects lie in a grid, so that each is found.
    """
    height, width = batch.image_size
    has_masks = isinstance(model, GeneralizedRCNN) and model.roi_heads.mask_on
    columns = int(np.ceil(np.sqrt(batch.num_objects)))
    numbers = torch.arange(batch.num_objects)
    corners = torch.stack([numbers % columns, numbers // columns], dim=1) / columns
    boxes = torch.cat([corners, corners + 0.9 / columns], dim=1)
    boxes = boxes * torch.tensor([width, height, width, height])
    inputs = []
    for _ in range(batch.batch_size):
        objects = Instances((height, width), gt_boxes=Boxes(boxes.clone()))
        objects.gt_classes = torch.zeros(len(boxes), dtype=torch.long)
        if has_masks:
            outlines = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()
            objects.gt_masks = PolygonMasks([[outline] for outline in outlines])
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        inputs.append({"image": image, "instances": objects, "height": height, "width": width})
    return inputs


def _measure(experiment: Experiment) -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    side = (experiment.warm_up_size, experiment.warm_up_size)
    small = Batch(side, 1, experiment.batch.dtype, 4)
    _run(Experiment(experiment.warm_up, small, "", mode=experiment.mode))
    gc.collect()
    before = resident_bytes(peak=False)
    reset_resident_peak()
    _run(experiment)
    return resident_bytes(peak=True) - before


def _run(experiment: Experiment) -> None:
    cfg = load_config(experiment.config_file, list(experiment.overrides))
    model: nn.Module = instantiate(cfg.model)
    mode = cfg.train.activation_checkpointing
    mode = mode if experiment.act_checkpoint is None else experiment.act_checkpoint
    if mode or experiment.act_checkpoint is not None:
        set_activation_checkpointing(model.modules(), mode)
    # Building draws numbers, which takes memory too.
    reset_resident_peak()
    inputs = make_inputs(model, experiment.batch)
    if experiment.mode == "inference":
        _detect(model, inputs, experiment.batch)
        return
    model.train()
    optimizer = build_optimizer(cfg, model)
    with EventStorage(0):
        for _ in range(_STEPS):
            optimizer.zero_grad()
            with experiment.batch.autocast():
                losses = model(inputs)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            optimizer.step()


def _detect(model: nn.Module, inputs: list[dict[str, Any]], batch: Batch) -> None:
    model.eval()
    if isinstance(model, GeneralizedRCNN):
        for predictor in stages_of(model.roi_heads.box_predictor):
            # Without training, nothing is certain.
            predictor.test_score_thresh = 0.0
    with torch.no_grad(), batch.autocast():
        model(inputs)


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
