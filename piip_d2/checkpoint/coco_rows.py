"""The classes of DINO's authors, who number them as COCO's files do."""

from __future__ import annotations

import torch
from torch import Tensor

# COCO numbers its 80 categories from 1 to 90, with gaps.
_MISSING_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_COCO_IDS = [number for number in range(1, 91) if number not in _MISSING_IDS]
_NUM_ROWS = 91
_LABELS = "denoising.label_enc."


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
    is_labels = name.startswith(_LABELS)
    if not is_labels and ".class_embed." not in name:
        return x
    if num_classes == len(_COCO_IDS) and len(x) in (_NUM_ROWS, _NUM_ROWS + is_labels):
        return x[torch.tensor(_COCO_IDS, device=x.device)]
    return x[:-1].clone() if is_labels and len(x) == num_classes + 1 else x
