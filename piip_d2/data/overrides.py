"""The section `data` of a config: a data set of one's own in the place of a config's."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from .checks import DatasetSummary
from .registration import check_registered_splits, ensure_dataset, register_coco_json

__all__ = ["apply_data_section", "set_num_classes"]

logger = logging.getLogger(__name__)

# Parts of a model whose num_classes are not those of the objects to detect.
OTHER_CLASSES = ("backbone", "sem_seg_head")


def apply_data_section(cfg: DictConfig) -> None:
    """Put the data that `cfg.data` names into loaders, evaluator and model; changes `cfg`.

    `data.train` and `data.val` are COCO-format JSONs or names of data sets, `data.images` is the
    folder of the images (that of the JSON if empty), `data.val_images` the one of the validation
    images (that of the training images if empty). Without `train` and `val` nothing changes.

    Args:
        cfg: a LazyConfig with `model` and `dataloader`.
    """
    section = cfg.get("data") or {}
    train, val = (str(section.get(key) or "") for key in ("train", "val"))
    if not train and not val:
        return
    if not val:
        raise ValueError(
            "data.train needs a data.val to evaluate on. Give the same JSON twice to measure on "
            "the training images"
        )
    images = str(section.get("images") or "")
    # The order matters for nothing but messages; the model takes the classes of the training set.
    val_name, summary = _register(val, str(section.get("val_images") or "") or images)
    if train:
        train_name, summary = _register(train, images)
        check_registered_splits(train_name, val_name)
        _check_masks(cfg, summary)
        cfg.dataloader.train.dataset.names = train_name
    cfg.dataloader.test.dataset.names = val_name
    _set_evaluator(cfg, val_name)
    set_num_classes(cfg.model, summary.num_classes)


def set_num_classes(model: DictConfig, num_classes: int) -> None:
    """Set every number of classes in the config of a model that is written out as a number.

    Args:
        model: the config of a model.
        num_classes: the number of kinds of objects.
    """
    nodes = list(_nodes_with_num_classes(model))
    if not nodes:
        logger.warning(
            "The config of the model has no num_classes: it is not set to the %d classes of the "
            "data",
            num_classes,
        )
    for node in nodes:
        node.num_classes = num_classes


def _register(source: str, images: str) -> tuple[str, DatasetSummary]:
    """Return the name and summary of a JSON, or of a data set given by name."""
    if not source.endswith(".json") and not Path(source).expanduser().is_file():
        summary = ensure_dataset(source)
        if summary is None:
            raise ValueError(
                f"data.train and data.val must be JSONs or names among those the package can "
                f"make, got {source!r}: set dataloader.train.dataset.names and "
                "dataloader.test.dataset.names to use what Detectron2 registers itself"
            )
        return source, summary
    json_file = Path(source).expanduser().resolve()
    root = Path(images).expanduser().resolve() if images else json_file.parent
    # The name tells apart two files called train.json, and is the same in every process.
    digest = hashlib.sha256(f"{json_file}\0{root}".encode()).hexdigest()[:8]
    name = f"{json_file.stem}_{digest}"
    return name, register_coco_json(name, json_file, root)


def _check_masks(cfg: DictConfig, summary: DatasetSummary) -> None:
    if not cfg.dataloader.train.mapper.get("use_instance_mask", False):
        return
    if not summary.num_masks:
        raise ValueError(
            f"this config trains on masks, but no object of {summary.json_file} has one. Take a "
            "config without masks (Faster R-CNN)"
        )
    if summary.num_masks < summary.num_annotations:
        logger.warning(
            "%d of %d objects of %s have no mask and are left out of training",
            summary.num_annotations - summary.num_masks,
            summary.num_annotations,
            summary.json_file,
        )


def _set_evaluator(cfg: DictConfig, name: str) -> None:
    evaluators = cfg.dataloader.get("evaluator")
    for evaluator in evaluators if isinstance(evaluators, ListConfig) else [evaluators]:
        if evaluator is None or "dataset_name" not in evaluator:
            continue
        # Most configs point to dataloader.test.dataset.names, which is set already.
        if not OmegaConf.is_interpolation(evaluator, "dataset_name"):
            evaluator.dataset_name = name


def _nodes_with_num_classes(node: DictConfig | ListConfig) -> Iterator[DictConfig]:
    keys: list[Any] = list(node.keys() if isinstance(node, DictConfig) else range(len(node)))
    for key in keys:
        # An interpolation follows the number that it points to.
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        if key == "num_classes" and isinstance(value, int) and isinstance(node, DictConfig):
            yield node
        elif isinstance(value, DictConfig | ListConfig) and key not in OTHER_CLASSES:
            yield from _nodes_with_num_classes(value)
