"""The section ``data`` of a config: a data set of one's own in the place of a config's."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from omegaconf import DictConfig, ListConfig, OmegaConf

from .checks import DatasetSummary
from .embedded import embedded_names
from .registration import (
    check_registered_splits,
    ensure_dataset,
    register_coco_json,
    registered_summary,
)
from .typed_values import is_typed

__all__ = ["apply_data_section", "set_num_classes"]

logger = logging.getLogger(__name__)

# Parts of a model whose num_classes are not those of the objects to detect.
OTHER_CLASSES = ("backbone", "sem_seg_head")

# Beginnings of names in Detectron2's catalogue, and those the package makes with masks.
_SETS_WITH_MASKS = ("coco_", "lvis_", "cityscapes_", "ade20k_", *embedded_names())

_WITHOUT_MASKS = (
    "Take a config without masks (Faster R-CNN, DINO, or a Cascade R-CNN whose name ends in _boxes)"
)
_NO_MASKS_TO_TRAIN = (
    f"this config trains on masks, but no object of {{json_file}} has one. {_WITHOUT_MASKS}"
)
_NO_MASKS_TO_MEASURE = (
    "this config is evaluated by its masks, but no object of {json_file} has one. "
    f"{_WITHOUT_MASKS}, or measure its boxes alone: dataloader.evaluator.tasks=[bbox]"
)


def apply_data_section(cfg: DictConfig) -> None:
    """Puts the data that ``cfg.data`` names into loaders, evaluator and model; changes ``cfg``.

    ``data.train`` and ``data.val`` are COCO-format JSONs or names of data sets, ``data.images`` is
    the folder of the images (that of the JSON if empty), ``data.val_images`` the one of the
    validation images (that of the training images if empty). Without ``train`` and ``val`` the
    data stay those of the config. Where masks are trained on or evaluated, objects without one are
    set aside.

    Args:
        cfg: A LazyConfig with ``model`` and ``dataloader``.

    Raises:
        ValueError: If the data do not fit the config, or each other; or a number of classes was
            typed that is not theirs.
    """
    section = cfg.get("data") or {}
    train, val = (str(section.get(key) or "") for key in ("train", "val"))
    if not train and not val:
        if _measures_masks(cfg):
            _check_masks_of_test_set(cfg)
        return
    if not val:
        raise ValueError(
            "data.train needs a data.val to evaluate on. Give the same JSON twice to measure on "
            "the training images"
        )
    images = str(section.get("images") or "")
    # The order matters for nothing but messages; the model takes the classes of the training set.
    val_name, summary = _register(val, str(section.get("val_images") or "") or images)
    if _measures_masks(cfg):
        val_name = _with_masks(val_name, summary, _NO_MASKS_TO_MEASURE)
    if train:
        train_name, summary = _register(train, images)
        check_registered_splits(train_name, val_name)
        if _trains_masks(cfg):
            train_name = _with_masks(train_name, summary, _NO_MASKS_TO_TRAIN)
        cfg.dataloader.train.dataset.names = train_name
    cfg.dataloader.test.dataset.names = val_name
    _set_evaluator(cfg, val_name)
    _check_typed_classes(cfg.model, summary)
    set_num_classes(cfg.model, summary.num_classes)


def set_num_classes(model: DictConfig, num_classes: int) -> None:
    """Sets every number of classes in the config of a model that is written out as a number.

    Args:
        model: The config of a model.
        num_classes: The number of kinds of objects.
    """
    nodes = [
        node
        for node, key, value in _settings(model)
        if key == "num_classes" and isinstance(value, int)
    ]
    if not nodes:
        logger.warning(
            "The config of the model has no num_classes: it is not set to the %d classes of the "
            "data",
            num_classes,
        )
    for node in nodes:
        node.num_classes = num_classes


def _check_typed_classes(model: DictConfig, summary: DatasetSummary) -> None:
    for node, key, value in _settings(model):
        is_number = key == "num_classes" and isinstance(value, int)
        if is_number and value != summary.num_classes and is_typed(node, key):
            raise ValueError(
                f"{node._get_full_key(key)}={value} was given, but {summary.json_file} has "
                f"{summary.num_classes} classes. Leave it out: the number of classes is taken from "
                "the data"
            )


def _register(source: str, images: str) -> tuple[str, DatasetSummary]:
    """Returns the name and summary of a JSON, or of a data set given by name."""
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


def _trains_masks(cfg: DictConfig) -> bool:
    return bool(OmegaConf.select(cfg, "dataloader.train.mapper.use_instance_mask", default=False))


def _measures_masks(cfg: DictConfig) -> bool:
    """Tells whether masks will be evaluated: where they are predicted, if nobody says otherwise."""
    heads = (value for _, key, value in _settings(cfg.model) if key == "mask_head")
    if not _trains_masks(cfg) and not any(head is not None for head in heads):
        return False
    tasks = [evaluator.get("tasks") for evaluator in _evaluators(cfg)]
    return any(chosen is None or "segm" in chosen for chosen in tasks)


def _check_masks_of_test_set(cfg: DictConfig) -> None:
    """Sets aside objects without a mask in what ``dataloader.test.dataset.names`` names alone.

    A long training would end in the evaluator's error otherwise.
    """
    given = OmegaConf.select(cfg, "dataloader.test.dataset.names", default=None)
    if not isinstance(given, str):
        return
    summary = registered_summary(given)
    if summary is not None:
        cfg.dataloader.test.dataset.names = _with_masks(given, summary, _NO_MASKS_TO_MEASURE)
        _set_evaluator(cfg, cfg.dataloader.test.dataset.names)
        return
    # Detectron2's own sets have masks, and reading them takes a while.
    if given not in DatasetCatalog.list() or given.startswith(_SETS_WITH_MASKS):
        return
    entries = [each for record in DatasetCatalog.get(given) for each in record["annotations"]]
    num_unmasked = sum("segmentation" not in entry for entry in entries)
    if num_unmasked:
        raise ValueError(
            f"this config is evaluated by its masks, but {num_unmasked} of {len(entries)} "
            f"annotations of {given!r} have none. Register it by piip_d2.data.register_coco_json("
            "..., set_aside_unmasked=True), or measure its boxes alone: "
            "dataloader.evaluator.tasks=[bbox]"
        )


def _with_masks(name: str, summary: DatasetSummary, problem: str) -> str:
    """Returns the name of the data set in which every object has a mask.

    Args:
        name: A data set.
        summary: What is in it.
        problem: What to say where no object has one.

    Returns:
        The same name if they all have one; otherwise that of a version in which the others are
        regions to ignore.
    """
    num_unmasked = summary.num_annotations - summary.num_masks
    if not num_unmasked:
        return name
    if not summary.num_masks:
        raise ValueError(problem.format(json_file=summary.json_file))
    logger.warning(
        "%d of %d objects of %s have no mask: they are left out of training, and in evaluation, "
        "that of boxes too, they count neither as found nor as missed",
        num_unmasked,
        summary.num_annotations,
        summary.json_file,
    )
    # Under a name of its own: a detector without masks can use the same JSON in full.
    version = f"{name}_masked"
    register_coco_json(version, summary.json_file, summary.image_root, set_aside_unmasked=True)
    return version


def _evaluators(cfg: DictConfig) -> list[DictConfig]:
    """Returns the evaluators of one data set that a config names, which may be one or several."""
    given = cfg.dataloader.get("evaluator")
    listed = given if isinstance(given, ListConfig) else [given]
    return [evaluator for evaluator in listed if evaluator and "dataset_name" in evaluator]


def _set_evaluator(cfg: DictConfig, name: str) -> None:
    for evaluator in _evaluators(cfg):
        # Most configs point to dataloader.test.dataset.names, which is set already.
        if not OmegaConf.is_interpolation(evaluator, "dataset_name"):
            evaluator.dataset_name = name


def _settings(
    node: DictConfig | ListConfig,
) -> Iterator[tuple[DictConfig | ListConfig, Any, Any]]:
    """Yields node, key and value of all that is written out, but for parts with other classes."""
    keys: list[Any] = list(node.keys() if isinstance(node, DictConfig) else range(len(node)))
    for key in keys:
        # An interpolation follows the number that it points to.
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        yield node, key, value
        if isinstance(value, DictConfig | ListConfig) and key not in OTHER_CLASSES:
            yield from _settings(value)
