"""Refuses objects of classes that a detector does not have, before they fail somewhere inside."""

from __future__ import annotations

import torch
from torch import Tensor


def range_of_classes(labels: Tensor) -> Tensor | None:
    """Finds the lowest and the highest class of all objects.

    Args:
        labels: (N,), their classes.

    Returns:
        Both on the host, (2,); None without objects. From a GPU they may still be on their way:
        they are there when the host has next waited for this stream.
    """
    if not len(labels):
        return None
    return torch.stack(labels.aminmax()).to("cpu", non_blocking=True)


def check_classes(found: Tensor | None, num_classes: int, key: str) -> None:
    """Refuses classes that a detector does not have.

    Args:
        found: What ``range_of_classes`` has given; the host must have waited for it.
        num_classes: How many there are.
        key: What sets this number in a config.

    Raises:
        ValueError: If a class is out of range.
    """
    if found is None:
        return
    lowest, highest = found.tolist()
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"gt_classes must be from 0 to num_classes - 1 ({num_classes - 1}), got {lowest} to "
            f"{highest}; set {key}"
        )
