"""Loaders and evaluator for any data set in COCO's format."""

from __future__ import annotations

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf

from piip_d2.data import (
    PIIPDatasetMapper,
    build_test_loader,
    build_train_loader,
    get_dataset_dicts,
)
from piip_d2.evaluation import PIIPCOCOEvaluator

# That of the run, or the CPU where a config has no section ``train``.
_DEVICE = "${oc.select:train.device,cpu}"


def detection_dataloader(
    *,
    train: str,
    test: str,
    total_batch_size: int,
    with_masks: bool = True,
    num_workers: int = 4,
) -> DictConfig:
    """The section ``dataloader``: images of one scale, flipped at random in training.

    Args:
        train: Name of the training set.
        test: Name of the set for evaluation.
        total_batch_size: Training images per batch, over all GPUs.
        with_masks: Whether instance masks are loaded.
        num_workers: Processes that load images, per GPU.
    """
    dataloader = OmegaConf.create(flags={"allow_objects": True})
    dataloader.train = L(build_train_loader)(
        dataset=L(get_dataset_dicts)(names=train),
        mapper=L(PIIPDatasetMapper)(
            is_train=True,
            augmentations=[_resize(), L(T.RandomFlip)(horizontal=True)],
            image_format="RGB",
            use_instance_mask=with_masks,
        ),
        total_batch_size=total_batch_size,
        num_workers=num_workers,
        device=_DEVICE,
    )
    dataloader.test = L(build_test_loader)(
        dataset=L(get_dataset_dicts)(names=test, filter_empty=False),
        mapper=L(PIIPDatasetMapper)(is_train=False, augmentations=[_resize()], image_format="RGB"),
        num_workers=num_workers,
        device=_DEVICE,
    )
    dataloader.evaluator = L(PIIPCOCOEvaluator)(dataset_name="${..test.dataset.names}")
    return dataloader


def set_image_size(dataloader: DictConfig, *, long_side: int, short_side: int) -> None:
    """Sets the scale of training and evaluation; images keep their shape.

    Args:
        dataloader: Made by :func:`detection_dataloader`; changed in place.
        long_side: Longest that the long side may become, in pixels.
        short_side: Length of the short side where the long one allows it, in pixels.
    """
    for loader in (dataloader.train, dataloader.test):
        resize = loader.mapper.augmentations[0]
        resize.max_size = long_side
        resize.short_edge_length = short_side


def _resize() -> DictConfig:
    return L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)
