"""Counts the costs of a network in one of three conventions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from piip_d2.analysis.actual import count_actual
from piip_d2.analysis.detectors import find_network
from piip_d2.analysis.paper import count_paper
from piip_d2.analysis.released_script import count_released_script
from piip_d2.analysis.report import CostReport

CONVENTIONS = ("paper", "released_script", "actual")


def count_costs(
    model: nn.Module,
    *,
    resolutions: Sequence[int] | None = None,
    convention: str = "actual",
    image_size: tuple[int, int] | None = None,
    fused_mlp: str = "counted",
) -> CostReport:
    """Counts parameters and multiply-adds of a network for one image, part by part.

    Args:
        model: A PIIP, a backbone around one, or a detector with one; on any device, ``meta``
            among them. It is neither run nor changed.
        resolutions: Image sides of the branches in pixels, largest first; None for their nominal
            sizes.
        convention: ``"paper"`` for the costs that the paper states, ``"released_script"`` for what
            the script in the authors' detection code prints, ``"actual"`` for all that runs.
            The first two stop behind the merge; see ``docs/COSTS.md``.
        image_size: Height and width in pixels of the image, for ``"actual"``; the others count
            for squares.
        fused_mlp: See :func:`count_released_script`; for that convention.

    Returns:
        The costs.

    Raises:
        ValueError: If the convention is unknown or has no rule for a part of the network, there is
            no PIIP, or sizes do not fit.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    if convention == "actual":
        return count_actual(model, resolutions, image_size)
    if image_size is not None:
        raise ValueError(
            f"the convention {convention!r} counts for squares of the largest resolution; "
            'image_size goes with "actual" alone'
        )
    network = find_network(model)
    if convention == "paper":
        return count_paper(network, resolutions)
    return count_released_script(network, resolutions, fused_mlp=fused_mlp)
