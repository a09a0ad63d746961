"""A trained network at other resolutions: what it then finds, and what that costs."""

from piip_d2.analysis.resolutions.choices import (
    Resolutions,
    pareto_front,
    parse_resolutions,
    resolution_grid,
    set_image_scale,
    set_resolutions,
)
from piip_d2.analysis.resolutions.sweep import (
    Sweep,
    SweepSettings,
    as_markdown,
    front_of,
)

__all__ = [
    "Resolutions",
    "Sweep",
    "SweepSettings",
    "as_markdown",
    "front_of",
    "pareto_front",
    "parse_resolutions",
    "resolution_grid",
    "set_image_scale",
    "set_resolutions",
]
