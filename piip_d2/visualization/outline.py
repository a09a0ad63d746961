"""An object as pictures of predictions and of ground truth show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Outline"]


@dataclass(frozen=True)
class Outline:
    """An object as it is drawn.

    Args:
        box: Left, top, right and bottom in pixels of the image.
        color: RGB in [0, 1].
        label: What is written beside it; "" for nothing.
        mask: Of shape ``(H, W)``, true on the object; None to draw its box alone.
        dashed: Whether the box is dashed.
    """

    box: np.ndarray
    color: tuple[float, float, float]
    label: str = ""
    mask: np.ndarray | None = None
    dashed: bool = False
