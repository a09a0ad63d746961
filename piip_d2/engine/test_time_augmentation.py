"""Test-time augmentation of an evaluation, by Detectron2's ``GeneralizedRCNNWithTTA``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from piip_d2.engine.image_scale import image_scale, resize_steps
from piip_d2.engine.overrides import accepts_argument

Sample = dict[str, Any]


class TestTimeAugmentation:
    """Predicts each image at several sizes, and flipped, and joins what is found.

    Boxes of all views go through one non-maximum suppression; masks are the mean over the views.
    Every view is made of the file's own pixels: the resizing of the config's test data is taken
    out of ``cfg`` and done here.

    Args:
        cfg: The configuration, whose test data must not be built yet; changed in place.

    Raises:
        ValueError: If ``train.tta`` or the test data do not fit.
    """

    # pytest takes every class with such a name for tests.
    __test__ = False

    def __init__(self, cfg: DictConfig) -> None:
        scales = tta_scales(cfg)
        short_side, long_side = image_scale(_take_resize(cfg))
        self._flip = bool(cfg.train.tta.flip)
        self._views = _Views(
            [
                DatasetMapperTTA(
                    min_sizes=[round(scale * short_side)],
                    max_size=round(scale * long_side),
                    flip=self._flip,
                )
                for scale in scales
            ]
        )
        self.num_views = len(scales) * (2 if self._flip else 1)
        if accepts_argument(cfg.dataloader.test, "device"):
            # The views are made of NumPy arrays.
            cfg.dataloader.test.device = "cpu"

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns a module that predicts with augmentation.

        Args:
            model: An R-CNN; its weights are shared.

        Returns:
            A module with the same inputs and outputs, for evaluation.

        Raises:
            ValueError: If the model is of another kind.
        """
        if not isinstance(model, GeneralizedRCNN):
            raise ValueError(
                "train.tta works with Faster, Mask and Cascade R-CNN, whose boxes of several views "
                f"are joined by non-maximum suppression, got {type(model).__name__}, which does "
                "without; evaluate it with train.tta.enabled=False"
            )
        # Views of one size at a time: a larger one in the batch would pad the others.
        return GeneralizedRCNNWithTTA(
            _as_yacs(model), model, self._views, batch_size=2 if self._flip else 1
        )


def tta_scales(cfg: DictConfig) -> list[float]:
    """Returns the factors of ``train.tta.scales``.

    Args:
        cfg: The configuration.

    Returns:
        One factor per size, of the size that the test data are resized to.

    Raises:
        ValueError: If they are no list of numbers above 0.
    """
    scales = cfg.train.tta.scales
    numbers = list(scales) if isinstance(scales, ListConfig) else []
    # A truth value is a whole number too, and NaN is above nothing.
    if not numbers or not all(type(each) in (int, float) and each > 0 for each in numbers):
        raise ValueError(
            f"train.tta.scales must be factors above 0, such as [0.75,1,1.25], got {scales}"
        )
    return [float(each) for each in numbers]


class _Views:
    """Makes the views of an image, one size after the other."""

    def __init__(self, mappers: Sequence[DatasetMapperTTA]) -> None:
        self._mappers = mappers

    def __call__(self, sample: Sample) -> list[Sample]:
        return [view for mapper in self._mappers for view in mapper(sample)]


def _take_resize(cfg: DictConfig) -> DictConfig:
    """Returns the resizing of the test data after taking it out of them."""
    for step in resize_steps(cfg.dataloader.test):
        if _target(step) is T.ResizeShortestEdge:
            cfg.dataloader.test.mapper.augmentations.remove(step)
            return step
    steps = OmegaConf.select(cfg, "dataloader.test.mapper.augmentations", default=None)
    raise ValueError(
        "train.tta needs a ResizeShortestEdge among dataloader.test.mapper.augmentations, whose "
        f"size its scales are factors of; got {steps}"
    )


def _target(step: DictConfig) -> Any:
    target = step.get("_target_")
    return locate(target) if isinstance(target, str) else target


def _as_yacs(model: GeneralizedRCNN) -> CfgNode:
    """Says of a built detector what Detectron2's class wants to read in a yacs config."""
    heads = model.roi_heads
    predictor = heads.box_predictor
    # A cascade has one per stage, and its last one decides.
    last = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = bool(getattr(heads, "mask_on", False))
    cfg.MODEL.KEYPOINT_ON = bool(getattr(heads, "keypoint_on", False))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = heads.num_classes
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = last.test_nms_thresh
    cfg.TEST.DETECTIONS_PER_IMAGE = last.test_topk_per_image
    return cfg
