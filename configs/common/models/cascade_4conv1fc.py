"""Cascades with convolutions in their box heads and boxes per class, as ViT-Adapter's."""

from __future__ import annotations

from omegaconf import DictConfig

from .cascade_stages import heads_of_cascade


def use_4conv1fc(model: DictConfig, *, norm: str = "SyncBN") -> None:
    """Gives a cascade the heads that ViT-Adapter has, https://arxiv.org/abs/2205.08534.

    Box heads are four convolutions with norms and one layer behind them, boxes are regressed per
    class by the GIoU loss, and the RPN has two convolutions.

    Args:
        model: Made by ``cascade_rcnn.py`` or ``cascade_mask_rcnn.py``; changed in place.
        norm: Norm of the convolutions in Detectron2's words: ``"SyncBN"`` on several GPUs, ``"BN"``
            on a CPU.

    Raises:
        ValueError: If the model is no cascade.
    """
    heads = heads_of_cascade(model)
    model.proposal_generator.head.conv_dims = [-1, -1]
    for head in heads.box_heads:
        head.conv_dims = [head.input_shape.channels] * 4
        head.fc_dims = head.fc_dims[:1]
        head.conv_norm = norm
    for predictor in heads.box_predictors:
        predictor.cls_agnostic_bbox_reg = False
        predictor.box_reg_loss_type = "giou"
        predictor.loss_weight = {"loss_box_reg": 10.0}
