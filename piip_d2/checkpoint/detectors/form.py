"""Kinds of detectors, and the tables of names that each needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from piip_d2.checkpoint.detectors.dino_names import dino_pairs
from piip_d2.checkpoint.detectors.rcnn_names import box_pairs, mask_pairs, pyramid_pairs
from piip_d2.checkpoint.detectors.sources import SOURCES
from piip_d2.checkpoint.renaming import Pair

# By whether it is a cascade, and whether it has masks.
_RCNNS = {
    (False, False): "faster_rcnn",
    (False, True): "mask_rcnn",
    (True, False): "cascade_rcnn",
    (True, True): "cascade_mask_rcnn",
}
KINDS = (*_RCNNS.values(), "dino")
STAGE = re.compile(r"roi_head\.(?:bbox|mask)_head\.(\d+)\.")
"""mmdetection's names of the heads of a cascade."""


@dataclass(frozen=True)
class DetectorForm:
    """Which detector it is, and whose names its weights have.

    Args:
        kind: One of :data:`KINDS`.
        source: A key of :data:`piip_d2.checkpoint.detectors.sources.SOURCES`.
        has_mask_ensemble: Whether our cascade has a mask head for every stage, as the others'.
        has_branches: Whether the backbone is one of PIIP's.
        num_classes: Kinds of objects of our detector.

    Raises:
        ValueError: If kind or source is unknown, or they do not belong together.
    """

    kind: str
    source: str = "mmdet"
    has_mask_ensemble: bool = True
    has_branches: bool = True
    num_classes: int = 80

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {list(KINDS)}, got {self.kind!r}")
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {list(SOURCES)}, got {self.source!r}")
        if self.kind != "dino" and not self.source.startswith("mmdet"):
            raise ValueError(
                f"weights of {SOURCES[self.source].title} are those of a DINO, "
                f"but they are wanted for the kind {self.kind!r}"
            )


def rcnn_kind(*, is_cascade: bool, has_masks: bool) -> str:
    """Names the kind of an R-CNN, one of :data:`KINDS`."""
    return _RCNNS[is_cascade, has_masks]


def detector_pairs(
    form: DetectorForm, norm: str, state_dict: Mapping[str, Tensor], last: int | None = None
) -> list[Pair]:
    """Names of all of a detector but its backbone.

    Args:
        form: Which detector, and whose names.
        norm: One of :data:`piip_d2.checkpoint.detectors.rcnn_names.NORM_KINDS`.
        state_dict: The weights under those names, as far as they are there.
        last: The number of the last stage of a cascade, where the weights do not tell.

    Returns:
        Pairs of the source's names and ours.
    """
    if form.kind == "dino":
        return dino_pairs(form.source, state_dict)
    pairs = pyramid_pairs(norm) + box_pairs(norm, stages=form.kind.startswith("cascade"))
    if form.kind == "mask_rcnn":
        pairs += mask_pairs(norm)
    elif form.kind == "cascade_mask_rcnn" and form.has_mask_ensemble:
        pairs += mask_pairs(norm, ".*", ".*")
    elif form.kind == "cascade_mask_rcnn":
        stage = last_stage(state_dict, STAGE) if last is None else last
        pairs += mask_pairs(norm, f".{stage}")
    return pairs


def last_stage(names: Iterable[str], pattern: re.Pattern[str]) -> int:
    """Finds the largest number that a pattern catches in names, 0 if there is none."""
    return max((int(match[1]) for name in names if (match := pattern.match(name))), default=0)
