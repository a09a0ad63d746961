"""Cascade R-CNN, https://arxiv.org/abs/1906.09756, with what frameworks do differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    select_foreground_proposals,
)
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from piip_d2.modeling.class_range import check_classes, range_of_classes
from piip_d2.modeling.roi_heads.cascade_yacs import (
    as_for_all_classes,
    make_predictors,
    number_of_mask_heads,
    options_of_cascade,
)
from piip_d2.modeling.roi_heads.mask_ensemble import MaskHeadEnsemble, join_mask_heads
from piip_d2.modeling.roi_heads.stage_proposals import (
    assign_masks,
    draw_again,
    is_ground_truth,
    make_samplers,
)

_SCORE_AVERAGES = ("probs", "logits")


class _Stage(NamedTuple):
    """What a stage works on, and what it says: logits (R, K + 1), deltas (R, 4) or (R, 4K)."""

    proposals: list[Instances]
    predictions: tuple[Tensor, Tensor]


@ROI_HEADS_REGISTRY.register()
class ExtendedCascadeROIHeads(CascadeROIHeads):
    """Detectron2's cascade of box heads, which can also train and test as mmdetection's does.

    With the defaults all results are those of Detectron2. Box predictors may regress boxes per
    class, which Detectron2's cascade does not know: the most probable class chooses the box for
    the next stage, in training the assigned class where there is one, and the last stage gives the
    boxes of all classes. Background is never chosen.

    Args:
        proposal_matchers: One per stage, as for Detectron2's class.
        mask_head: One head, which learns from the proposals of the first stage; or one per stage,
            which learns from those of its stage, and masks are the mean of all of them. None for
            no masks, whatever else there is for them.
        score_average: What is averaged over the stages to score boxes. mmdetection averages
            logits.
        stage_loss_weights: Factors of the losses of boxes and, with a mask head per stage, of
            masks; None for 1 in every stage. mmdetection has 1, 0.5 and 0.25.
        scale_gradients: Whether gradients of features from the box heads are divided by the number
            of stages. mmdetection's are not.
        remove_ground_truth: Whether a proposal that is an object's own box is left out of the
            next stage, as by mmdetection.
        resample_proposals: Whether later stages too add the objects to their proposals and draw
            from them, as the first does. mmdetection does so.
        **kwargs: Other arguments of Detectron2's class.

    Raises:
        ValueError: If an option does not fit the number of stages, or is unknown.
    """

    @configurable
    def __init__(
        self,
        *,
        proposal_matchers: Sequence[Matcher],
        mask_head: nn.Module | Sequence[nn.Module] | None = None,
        score_average: Literal["probs", "logits"] = "probs",
        stage_loss_weights: Sequence[float] | None = None,
        scale_gradients: bool = True,
        remove_ground_truth: bool = False,
        resample_proposals: bool = False,
        **kwargs: Any,
    ) -> None:
        num_stages = len(proposal_matchers)
        weights = [1.0] * num_stages if stage_loss_weights is None else list(stage_loss_weights)
        if len(weights) != num_stages:
            raise ValueError(
                f"stage_loss_weights must be one weight for each of {num_stages} stages, "
                f"got {weights}"
            )
        if score_average not in _SCORE_AVERAGES:
            raise ValueError(
                f"score_average must be one of {', '.join(_SCORE_AVERAGES)}, got {score_average!r}"
            )
        if mask_head is None:
            kwargs.update(mask_in_features=None, mask_pooler=None)
        super().__init__(
            proposal_matchers=proposal_matchers,
            mask_head=join_mask_heads(mask_head, num_stages),
            **kwargs,
        )
        self.score_average = score_average
        self.stage_loss_weights = weights
        self.scale_gradients = scale_gradients
        self.remove_ground_truth = remove_ground_truth
        self.resample_proposals = resample_proposals
        # A plain list: nothing of them belongs in a checkpoint.
        self._samplers = make_samplers(self, proposal_matchers)

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        classes = range_of_classes(torch.cat([x.gt_classes for x in targets]))
        sampled = super().label_and_sample_proposals(proposals, targets)
        # Detectron2 has waited for the GPU here, to count its samples: looking costs no time.
        check_classes(classes, self.num_classes, "model.roi_heads.num_classes")
        return sampled

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return super().from_config(cfg, input_shape) | options_of_cascade(cfg)

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        if cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            return super()._init_box_head(cfg, input_shape)
        arguments = super()._init_box_head(as_for_all_classes(cfg), input_shape)
        arguments["box_predictors"] = make_predictors(cfg, arguments["box_heads"])
        return arguments

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        arguments = super()._init_mask_head(cfg, input_shape)
        if arguments:
            heads = [arguments["mask_head"]]
            while len(heads) < number_of_mask_heads(cfg):
                heads.append(super()._init_mask_head(cfg, input_shape)["mask_head"])
            arguments["mask_head"] = heads
        return arguments

    def _forward_box(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> dict[str, Tensor] | list[Instances]:
        stages = self._run_stages(features, proposals, targets)
        if not self.training:
            return self._detect(stages)
        losses: dict[str, Tensor] = {}
        for number, stage in enumerate(stages):
            with get_event_storage().name_scope(f"stage{number}"):
                of_stage = self.box_predictor[number].losses(stage.predictions, stage.proposals)
                if self._has_mask_ensemble:
                    of_stage.update(self._mask_losses(features, stage.proposals, number))
            weight = self.stage_loss_weights[number]
            losses.update({f"{name}_stage{number}": x * weight for name, x in of_stage.items()})
        return losses

    def _forward_mask(
        self, features: Mapping[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        if self.training and self._has_mask_ensemble:
            # These losses are there already, beside those of the boxes of each stage.
            return {}
        return super()._forward_mask(features, instances)

    def _run_stages(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None,
    ) -> list[_Stage]:
        maps = [features[name] for name in self.box_in_features]
        image_sizes = [of_image.image_size for of_image in proposals]
        stages: list[_Stage] = []
        for number in range(self.num_cascade_stages):
            # Boxes of the last stage are refined once only, with those of all its classes.
            if number > 0:
                boxes = self._refine_boxes(stages[-1], number - 1)
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
                if targets is not None:
                    proposals = self._match_and_label_boxes(proposals, number, targets)
            predictions = self._run_stage(maps, proposals, number)
            stages.append(_Stage(proposals, predictions))
        return stages

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor, Tensor]:
        if self.scale_gradients:
            return super()._run_stage(features, proposals, stage)
        regions = self.box_pooler(features, [x.proposal_boxes for x in proposals])
        return self.box_predictor[stage](self.box_head[stage](regions))

    @torch.no_grad()
    def _refine_boxes(self, stage: _Stage, number: int) -> list[Tensor]:
        """Makes of every proposal of a stage one box, (R, 4) for each image."""
        logits, deltas = stage.predictions
        if deltas.shape[1] > 4:
            # The last column is background, which has no box.
            classes = logits[:, :-1].argmax(dim=1)
            if self.training:
                assigned = torch.cat([x.gt_classes for x in stage.proposals])
                classes = torch.where(assigned < self.num_classes, assigned, classes)
            rows = torch.arange(len(classes), device=classes.device)
            deltas = deltas.unflatten(1, (-1, 4))[rows, classes]
        boxes = self.box_predictor[number].predict_boxes((logits, deltas), stage.proposals)
        if not (self.training and self.remove_ground_truth):
            return boxes
        pairs = zip(boxes, stage.proposals, strict=True)
        return [of_image[~is_ground_truth(x, self.num_classes)] for of_image, x in pairs]

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        if self.resample_proposals:
            with get_event_storage().name_scope(f"stage{stage}"):
                return draw_again(self._samplers[stage], proposals, targets)
        proposals = super()._match_and_label_boxes(proposals, stage, targets)
        if self._has_mask_ensemble:
            assign_masks(self.proposal_matchers[stage], proposals, targets)
        return proposals

    def _mask_losses(
        self, features: Mapping[str, Tensor], proposals: list[Instances], stage: int
    ) -> dict[str, Tensor]:
        instances, _ = select_foreground_proposals(proposals, self.num_classes)
        regions: Any = {name: features[name] for name in self.mask_in_features}
        if self.mask_pooler is not None:
            boxes = [x.proposal_boxes for x in instances]
            regions = self.mask_pooler(list(regions.values()), boxes)
        return self.mask_head[stage](regions, instances)

    def _detect(self, stages: Sequence[_Stage]) -> list[Instances]:
        predictor, last = self.box_predictor[-1], stages[-1]
        if self.score_average == "logits":
            # In float32 also where autocast gives lower precision.
            logits = torch.stack([stage.predictions[0].float() for stage in stages]).mean(dim=0)
            scores = predictor.predict_probs((logits, last.predictions[1]), last.proposals)
        else:
            of_stages = [
                self.box_predictor[number].predict_probs(stage.predictions, stage.proposals)
                for number, stage in enumerate(stages)
            ]
            # Summed and multiplied in Detectron2's order, for its very bits.
            factor = 1.0 / len(stages)
            scores = [sum(of_image) * factor for of_image in zip(*of_stages, strict=True)]
        instances, _ = fast_rcnn_inference(
            predictor.predict_boxes(last.predictions, last.proposals),
            scores,
            [x.image_size for x in last.proposals],
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        return instances

    @property
    def _has_mask_ensemble(self) -> bool:
        return self.mask_on and isinstance(self.mask_head, MaskHeadEnsemble)
