"""A picture of what is learnt, for the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage

from piip_d2._optional import require

_MAX_BOXES = 20


def draw_training_picture(
    one_input: Mapping[str, Any], found: Instances, image_format: str
) -> None:
    """Puts an image with its objects, above the same with the best detections, into the log.

    Args:
        one_input: The image and its objects.
        found: Its detections, best first.
        image_format: Order of the channels.
    """
    visualizer = require("detectron2.utils.visualizer", "pictures of training (vis_period)")
    image = convert_image_to_rgb(one_input["image"].permute(1, 2, 0), image_format)
    wanted = one_input["instances"].gt_boxes.tensor.cpu()
    best = found.pred_boxes.tensor[:_MAX_BOXES].float().cpu()
    pictures = [
        visualizer.Visualizer(image).overlay_instances(boxes=boxes.numpy()).get_image()
        for boxes in (wanted, best)
    ]
    get_event_storage().put_image(
        f"above: objects; below: the best {_MAX_BOXES} detections",
        np.concatenate(pictures).transpose(2, 0, 1),
    )
