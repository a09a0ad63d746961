"""Data of many classes with few images each, LVIS above all: https://arxiv.org/abs/1908.03195."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import get_fed_loss_cls_weights
from detectron2.data.samplers import RepeatFactorTrainingSampler

from .registration import get_dataset_dicts

__all__ = ["federated_class_weights", "get_repeated_dataset_dicts"]


def get_repeated_dataset_dicts(
    names: str | Sequence[str], repeat_threshold: float = 0.001, **arguments: Any
) -> list[dict[str, Any]]:
    """Returns dataset dicts in which images of rare classes come several times.

    How often is Detectron2's repeat factor; its fractional part is rounded at random, once for the
    whole training, while Detectron2's sampler draws anew for every pass over the data.

    Args:
        names: One or several names of data sets.
        repeat_threshold: Classes in less than this share of the images are rare.
        **arguments: Passed on to ``get_dataset_dicts``.

    Returns:
        One entry per image and repetition; repetitions are the same objects.

    Raises:
        ValueError: If the threshold is no share.
    """
    if not 0 <= repeat_threshold <= 1:
        raise ValueError(f"repeat_threshold must be between 0 and 1, got {repeat_threshold}")
    entries = get_dataset_dicts(names, **arguments)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        entries, repeat_threshold
    ).numpy()
    # The same in every process and after every resumption.
    draws = np.random.Generator(np.random.PCG64(0)).random(len(entries))
    counts = np.floor(factors).astype(np.int64) + (draws < factors % 1)
    return [entry for entry, count in zip(entries, counts, strict=True) for _ in range(count)]


def federated_class_weights(
    names: str | Sequence[str], *, num_classes: int, power: float = 0.5
) -> Callable[[], torch.Tensor]:
    """Returns what Detectron2's box predictor asks for weights of its federated loss.

    The loss counts, beside the classes of the batch, some others, drawn by these weights. Where
    the data are not there, as for prediction, weights are 1 until a checkpoint brings its own.

    Args:
        names: The training set or sets.
        num_classes: Number of classes.
        power: Exponent of a class's number of images.

    Returns:
        A function without arguments that gives the weights, (``num_classes``,).
    """
    listed = [names] if isinstance(names, str) else list(names)
    if not set(listed) <= set(DatasetCatalog.list()):
        return functools.partial(torch.ones, num_classes)
    for name in listed:
        if MetadataCatalog.get(name).get("class_image_count") is None:
            MetadataCatalog.get(name).class_image_count = _images_of_classes(name, num_classes)
    return functools.partial(get_fed_loss_cls_weights, listed, power)


def _images_of_classes(name: str, num_classes: int) -> list[dict[str, int]]:
    """Counts images by class, in the form in which Detectron2 notes it for LVIS."""
    counts: Counter[int] = Counter()
    for entry in DatasetCatalog.get(name):
        counts.update({annotation["category_id"] for annotation in entry["annotations"]})
    return [{"id": index, "image_count": counts[index]} for index in range(num_classes)]
