"""Pictures: predictions, mistakes, contact sheets, training curves, costs, video."""

from __future__ import annotations

from .contact_sheet import Example, draw_contact_sheet
from .curves import draw_curves, read_metrics
from .drawing import draw_ground_truth, draw_predictions

__all__ = [
    "Example",
    "draw_contact_sheet",
    "draw_curves",
    "draw_ground_truth",
    "draw_predictions",
    "read_metrics",
]
