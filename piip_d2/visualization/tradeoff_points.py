"""Detectors with their accuracy and costs, as pictures of the trade-off show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from piip_d2.engine.inference_costs import FEWEST_FOR_TENTHS

__all__ = [
    "COCO",
    "FEWEST_IMAGES",
    "FROM_PAPER",
    "FROM_REPOSITORY",
    "MEASURED",
    "Latency",
    "Panel",
    "TradeoffPoint",
]

FROM_PAPER = "from the paper"
FROM_REPOSITORY = "from the authors' repository"
MEASURED = "measured here"

COCO = "COCO val2017"

# A latency of fewer images is rough. An evaluation, which may time several in a batch, gives no
# spread of fewer batches; of those by earlier versions the images alone are known.
FEWEST_IMAGES = FEWEST_FOR_TENTHS


@dataclass(frozen=True)
class Latency:
    """Time for one image.

    Args:
        median: In milliseconds.
        spread: A lower and an upper quantile, in milliseconds; None if too little was timed.
        quantiles: Which ones these are, in words.
        device: What it was measured on.
        num_images: How many images were timed; None if that is not known.
    """

    median: float
    spread: tuple[float, float] | None
    quantiles: str
    device: str
    num_images: int | None = None

    @property
    def is_rough(self) -> bool:
        """Whether so few images were timed that a picture says how many."""
        if self.num_images is None:
            return False
        return self.spread is None or self.num_images < FEWEST_IMAGES


@dataclass(frozen=True)
class TradeoffPoint:
    """A detector with its accuracy and costs.

    Args:
        series: What it belongs to: a system of the paper, or a run.
        label: What tells it from others of its series, such as its resolutions.
        source: Where its numbers come from: "from the paper", "from the authors' repository" or
            "measured here".
        dataset: The data that its accuracy is measured on.
        accuracy: In percent.
        flops: Multiply-adds by convention: "paper" (of the backbone) and "actual" (of all).
        latency: Time for one image, where it is known.
        is_marked: Whether it stands out, as the trained resolutions of a sweep do.
    """

    series: str
    label: str
    source: str
    dataset: str
    accuracy: float
    flops: Mapping[str, float] = field(default_factory=dict)
    latency: Latency | None = None
    is_marked: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes to be: what is comparable, with the cost of each point, and nothing else."""

    title: str
    xlabel: str
    points: Sequence[tuple[TradeoffPoint, float]]
    shows_latency: bool = False
