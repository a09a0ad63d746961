"""From predictions to detections."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.structures import Boxes, Instances
from torch import Tensor

from piip_d2.modeling.dino.boxes import to_corners


def select_detections(
    logits: Tensor,
    boxes: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    *,
    topk: int = 300,
    score_thresh: float = 0.0,
) -> list[Instances]:
    """Takes the pairs of query and class with the highest scores.

    A query may be taken with several classes.

    Args:
        logits: (B, Q, classes).
        boxes: (B, Q, 4), centre and size relative to the images.
        image_sizes: (height, width) of every image without its padding.
        topk: Largest number of detections in an image.
        score_thresh: Detections with a lower score are left out.

    Returns:
        Per image ``pred_boxes`` in pixels, ``scores`` and ``pred_classes``, best first.
    """
    num_classes = logits.shape[2]
    flat = logits.sigmoid().flatten(1)
    scores, chosen = flat.topk(min(topk, flat.shape[1]), dim=1)
    queries = chosen.div(num_classes, rounding_mode="floor")
    corners = to_corners(boxes)
    corners = corners.gather(1, queries[..., None].expand(-1, -1, 4))
    results = []
    for number, (height, width) in enumerate(image_sizes):
        found = Boxes(corners[number] * corners.new_tensor((width, height, width, height)))
        found.clip((height, width))
        instances = Instances(
            (height, width),
            pred_boxes=found,
            scores=scores[number],
            pred_classes=chosen[number] % num_classes,
        )
        results.append(instances[scores[number] >= score_thresh] if score_thresh > 0 else instances)
    return results
