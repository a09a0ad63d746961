"""What a user of an exported file has to know of its images and classes, as texts."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import nn


def describe_images(model: nn.Module) -> dict[str, str]:
    """Says how a model wants its images.

    Args:
        model: A detector, or a backbone that knows what it was trained with.

    Returns:
        ``channel_order``, and ``pixel_mean`` and ``pixel_std`` as JSON, one number per channel in
        that order, for values from 0 to 255. What the model does not know is left out.
    """
    found = {}
    order = getattr(model, "input_format", None)
    if order:
        found["channel_order"] = str(order)
    for name in ("pixel_mean", "pixel_std"):
        values = getattr(model, name, None)
        if values is not None:
            numbers = torch.as_tensor(values).flatten().tolist()
            # What float32 adds to decimals is none of theirs.
            found[name] = json.dumps([float(f"{number:.7g}") for number in numbers])
    return found


def describe_classes(num_classes: int, class_names: Sequence[str]) -> dict[str, str]:
    """Says what the numbers of classes stand for.

    Args:
        num_classes: As many as the model tells apart.
        class_names: By number; none if they are not known.

    Returns:
        ``num_classes``, and ``class_names`` as JSON if there are any.

    Raises:
        ValueError: If there are other than ``num_classes`` names.
    """
    if class_names and len(class_names) != num_classes:
        raise ValueError(
            f"class_names must have one name for each of the {num_classes} classes of the model, "
            f"got {len(class_names)}; leave them out if they are not known"
        )
    found = {"num_classes": str(num_classes)}
    if class_names:
        found["class_names"] = json.dumps(list(class_names), ensure_ascii=False)
    return found
