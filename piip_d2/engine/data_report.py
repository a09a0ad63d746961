"""What the log of a run says about its training data: epochs, and sizes beside the pyramid."""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from piip_d2.data.loader import TrainLoader
from piip_d2.data.object_sizes import ObjectSizes, PyramidGrid, describe_sizes
from piip_d2.engine.image_scale import image_scale, resize_steps
from piip_d2.modeling.backbone.branch import Branch

logger = logging.getLogger(__name__)

# A schedule of 1x sees every image of COCO 12 times.
_PUBLISHED_EPOCHS = 12
# Small data sets want more; beyond this, a schedule for a large one was left as it was.
_MANY_EPOCHS = 150
_MOST_ELONGATED = 100


def log_training_data(cfg: DictConfig, model: nn.Module, loader: Any) -> None:
    """Logs how often the run sees its images, and how large their objects are for the model.

    Args:
        cfg: The configuration.
        model: The detector.
        loader: The training data; nothing is logged about other loaders than the package's.
    """
    objects = loader.objects if isinstance(loader, TrainLoader) else None
    if objects is None or not len(objects):
        return
    lines = [f"{len(objects)} objects in {objects.num_images} images. {_epochs(cfg, objects)}"]
    grid = pyramid_grid(cfg, model)
    if grid is not None:
        lines.append(describe_sizes({"train": objects}, grid))
    logger.info("To train on: %s", "\n".join(lines))


def pyramid_grid(cfg: DictConfig, model: nn.Module) -> PyramidGrid | None:
    """Finds the strides of a detector and the scale at which it gets its images.

    Args:
        cfg: The configuration; the scale is that of evaluation, which in training may vary.
        model: The detector, on any device.

    Returns:
        None for a model without feature maps.
    """
    backbone = getattr(model, "backbone", None)
    if backbone is None or not hasattr(backbone, "output_shape"):
        return None
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    if not all(strides.values()) or not strides:
        return None
    loader = OmegaConf.select(cfg, "dataloader.test", default=None)
    steps = resize_steps(loader) if loader else []
    short_side, long_side = image_scale(steps[0]) if steps else (0, 0)
    # No image is more elongated, and the number is shown.
    long_side = min(long_side, _MOST_ELONGATED * short_side)
    return PyramidGrid(strides, _tokens(backbone), short_side, long_side)


def _epochs(cfg: DictConfig, objects: ObjectSizes) -> str:
    batch = cfg.dataloader.train.get("total_batch_size", 0) * cfg.train.accumulate
    if not batch:
        return ""
    epochs = cfg.train.max_iter * batch / objects.num_images
    text = f"{cfg.train.max_iter} iterations of {batch} images see every image {epochs:.3g} times."
    if epochs <= _MANY_EPOCHS:
        return text
    fewer = max(1, round(_PUBLISHED_EPOCHS * objects.num_images / batch))
    return (
        f"{text} Mind that the published schedules of 12 to 36 times are train.max_iter={fewer} "
        f"to {3 * fewer} here."
    )


def _tokens(backbone: nn.Module) -> tuple[tuple[int, float], ...]:
    """Returns resolution, and pixels of the whole image per token, of each branch."""
    for module in backbone.modules():
        found = getattr(module, "branches", None)
        if isinstance(found, nn.ModuleList):
            branches = [branch for branch in found if isinstance(branch, Branch)]
            largest = max((branch.img_size for branch in branches), default=0)
            return tuple((branch.img_size, _token(branch, largest)) for branch in branches)
    return ()


def _token(branch: Branch, largest: int) -> float:
    return branch.stride_after(branch.num_blocks - 1) * largest / branch.img_size
