"""Cascade Mask R-CNN on PIIP: Detectron2's three box heads and one mask head, trained as there.

``cascade_as_mmdet.py`` and ``cascade_4conv1fc.py`` make other kinds of it.
"""

from piip_d2.modeling import ExtendedCascadeROIHeads

from ..stock import load_stock
from .mask_rcnn import model

model.roi_heads = load_stock("common/models/cascade_rcnn.py").model.roi_heads
model.roi_heads.update(
    _target_=ExtendedCascadeROIHeads,
    # What is averaged over the stages: "probs" or "logits".
    score_average="probs",
    stage_loss_weights=[1.0, 1.0, 1.0],
    scale_gradients=True,
    remove_ground_truth=False,
    resample_proposals=False,
)
