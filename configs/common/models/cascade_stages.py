"""What the functions that change cascades ask of a model."""

from __future__ import annotations

from omegaconf import DictConfig


def heads_of_cascade(model: DictConfig) -> DictConfig:
    """Finds the heads that the stages of a cascade have.

    Args:
        model: A detector.

    Returns:
        Its ``roi_heads``.

    Raises:
        ValueError: If they are not those of a cascade.
    """
    heads = model.get("roi_heads")
    if heads is None or "box_predictors" not in heads:
        given = "a model without roi_heads" if heads is None else f"the roi_heads {sorted(heads)}"
        raise ValueError(
            f"the model must be a cascade, whose roi_heads have box_predictors, got {given}; begin "
            "with configs/common/models/cascade_mask_rcnn.py or cascade_rcnn.py"
        )
    return heads
