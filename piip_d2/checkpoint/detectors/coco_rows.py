"""The classes of DINO's authors, who number them as COCO's files do."""

from __future__ import annotations

import torch
from torch import Tensor

from piip_d2.checkpoint.detectors.dino_names import OUR_LABELS

# COCO numbers its 80 categories from 1 to 90, with gaps.
_MISSING_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_COCO_IDS = [number for number in range(1, 91) if number not in _MISSING_IDS]
_NUM_ROWS = 91


def has_class_rows(name: str) -> bool:
    """Tells by our name whether a weight of DINO has a row for every class."""
    return name.startswith(f"{OUR_LABELS}.") or ".class_embed." in name


def existing_classes(name: str, x: Tensor, num_classes: int) -> Tensor:
    """Takes the rows of the classes that exist.

    Args:
        name: Our name of the weight.
        x: The weight; of class heads it has a row for every number, of the labels one more, which
            stands for no class and is used by nothing.
        num_classes: Classes of our detector.

    Returns:
        Rows for COCO's 80 classes of 91, or all but the last row of the labels; anything else as
        it is.
    """
    if not has_class_rows(name):
        return x
    is_labels = name.startswith(OUR_LABELS)
    if num_classes == len(_COCO_IDS) and len(x) in (_NUM_ROWS, _NUM_ROWS + is_labels):
        return x[torch.tensor(_COCO_IDS, device=x.device)]
    return x[:-1].clone() if is_labels and len(x) == num_classes + 1 else x
