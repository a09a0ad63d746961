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
    corners, scores, classes = select_pairs(logits, boxes, topk)
    results = []
    for number, (height, width) in enumerate(image_sizes):
        found = corners[number] * corners.new_tensor((width, height, width, height))
        # Detectron2 asserts that boxes are finite. As its own heads do, leave out what is not: a
        # network that diverged then finds nothing. Comparing leaves out scores that are no numbers.
        is_wanted = found.isfinite().all(dim=1) & (scores[number] >= score_thresh)
        instances = Instances(
            (height, width),
            pred_boxes=Boxes(found[is_wanted]),
            scores=scores[number][is_wanted],
            pred_classes=classes[number][is_wanted],
        )
        instances.pred_boxes.clip((height, width))
        results.append(instances)
    return results


def select_pairs(logits: Tensor, boxes: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Takes the pairs of query and class with the highest scores, as many for every image.

    Args:
        logits: See :func:`select_detections`.
        boxes: See there.
        topk: See there; K below is at most this.

    Returns:
        Left, top, right and bottom (B, K, 4) relative to the images, scores (B, K) and classes
        (B, K), best first.
    """
    num_classes = logits.shape[2]
    flat = logits.sigmoid().flatten(1)
    scores, chosen = flat.topk(min(topk, flat.shape[1]), dim=1)
    queries = chosen.div(num_classes, rounding_mode="floor")
    corners = to_corners(boxes).gather(1, queries[..., None].expand(-1, -1, 4))
    return corners, scores, chosen % num_classes
