"""Resolutions of a pyramid: how they are written, combined, applied and compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from omegaconf import DictConfig, ListConfig
from torch import nn

from piip_d2.analysis.detectors import find_network
from piip_d2.analysis.structure import check_resolutions
from piip_d2.engine.image_scale import LONG_SIDE, SHORT_SIDE, resize_steps
from piip_d2.modeling.backbone import Branch

# Image sides of the branches in pixels, largest first.
Resolutions = tuple[int, ...]


def parse_resolutions(text: str) -> Resolutions:
    """Reads image sides from text.

    Args:
        text: Whole numbers with commas between them, such as "1120,896,448".

    Returns:
        The numbers.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError:
        sides = ()
    if not sides or min(sides) < 1:
        raise ValueError(
            "resolutions must be positive whole numbers with commas between them, such as "
            f"1120,896,448, got {text!r}"
        )
    return sides


def resolution_grid(choices: Sequence[Resolutions]) -> list[Resolutions]:
    """Combines the sides that each branch has somewhere in a list in every possible way.

    Args:
        choices: Resolutions of equal length.

    Returns:
        All combinations in which no branch sees a smaller image than the one behind it, largest
        first.

    Raises:
        ValueError: If the lengths differ.
    """
    if len({len(choice) for choice in choices}) != 1:
        raise ValueError(f"all resolutions must have as many sides, got {list(choices)}")
    columns = [sorted(set(column), reverse=True) for column in zip(*choices, strict=True)]
    return [
        combination
        for combination in itertools.product(*columns)
        if list(combination) == sorted(combination, reverse=True)
    ]


def network_resolutions(model: nn.Module) -> Resolutions:
    """Returns the image sides of a model's branches in pixels, largest first."""
    return tuple(branch.img_size for branch in _branches(model)[::-1])


def set_resolutions(model: nn.Module, resolutions: Sequence[int]) -> None:
    """Lets the branches of a model see images of other sizes.

    Nothing is trained: position tables are stretched over whatever grid comes, windows are filled
    up, and reference points follow the grids. Images should be scaled alike, see
    :func:`set_image_scale`.

    Args:
        model: A PIIP, or a detector with one; changed in place.
        resolutions: Image sides in pixels, largest first.

    Raises:
        ValueError: If they do not fit the branches, or there is no PIIP.
    """
    branches = _branches(model)
    check_resolutions(resolutions, branches)
    for branch, side in zip(branches[::-1], resolutions, strict=True):
        branch.img_size = side


def set_image_scale(loader: DictConfig, side: int, trained_side: int) -> None:
    """Scales the size that test images are resized to, by that of the largest branch.

    Args:
        loader: The section ``dataloader.test``; changed in place.
        side: Largest resolution wanted, in pixels.
        trained_side: Largest resolution of the configuration.

    Raises:
        ValueError: If the section resizes no image, so that nothing can be scaled.
    """
    steps = resize_steps(loader)
    if not steps and side != trained_side:
        raise ValueError(
            "dataloader.test.mapper.augmentations must have a step with short_edge_length, which "
            "other resolutions scale, and max_size with it; it has none"
        )
    for step, name in itertools.product(steps, (SHORT_SIDE, LONG_SIDE)):
        if name in step:
            present = step[name]
            if isinstance(present, ListConfig):
                step[name] = [length * side // trained_side for length in present]
            else:
                step[name] = present * side // trained_side


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Tells which points no other point beats.

    Args:
        costs: The less, the better.
        values: The more, the better.

    Returns:
        For each point whether there is no other that is at least as good in both, and better in
        one.
    """
    return [
        not any(_beats(other, point) for other in zip(costs, values, strict=True))
        for point in zip(costs, values, strict=True)
    ]


def _beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
    return other[0] <= point[0] and other[1] >= point[1] and other != point


def _branches(model: nn.Module) -> list[Branch]:
    """The branches, smallest image first."""
    return [cast(Branch, branch) for branch in find_network(model).branches]
