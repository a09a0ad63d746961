"""The size that a configuration resizes its test images to."""

from __future__ import annotations

import sys

from omegaconf import DictConfig, ListConfig, OmegaConf

# Arguments of Detectron2's ResizeShortestEdge, the first of which every such step has.
SHORT_SIDE = "short_edge_length"
LONG_SIDE = "max_size"


def resize_steps(loader: DictConfig) -> list[DictConfig]:
    """Finds the steps that resize by the shorter side, as Detectron2's ``ResizeShortestEdge``.

    Args:
        loader: The section ``dataloader.test``.

    Returns:
        Those of its ``mapper.augmentations``; changes to them are changes to the section.
    """
    steps = OmegaConf.select(loader, "mapper.augmentations", default=None)
    # Steps that are built already are no sections, and say nothing of their arguments.
    listed = [] if not isinstance(steps, ListConfig) else list(steps)
    return [step for step in listed if isinstance(step, DictConfig) and SHORT_SIDE in step]


def image_scale(step: DictConfig) -> tuple[int, int]:
    """Reads what a step resizes to, in each of the forms that ``ResizeShortestEdge`` takes.

    Args:
        step: One of :func:`resize_steps`.

    Returns:
        The shorter side in pixels, the largest where there is a choice, and the most that the
        longer side may have; where nothing limits that, Python's largest index as in Detectron2.
    """
    sides = step[SHORT_SIDE]
    short_side = max(sides) if isinstance(sides, ListConfig) else sides
    return int(short_side), int(step.get(LONG_SIDE, sys.maxsize))
