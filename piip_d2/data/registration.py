"""Data sets by name: any COCO-format JSON given by two paths, and those the package can make.

On import, the names of ``embedded_names()`` are put into Detectron2's catalogue; the data are made
when they are first asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets.coco import load_coco_json
from detectron2.utils import comm

from .._atomic_file import write_text_atomically
from .checks import DatasetSummary, check_classes, check_coco, read_coco_json
from .embedded import datasets_root, embedded_names, prepare_dataset
from .leakage import find_shared_images

__all__ = [
    "check_registered_splits",
    "ensure_dataset",
    "get_dataset_dicts",
    "register_coco_json",
    "registered_summary",
]

logger = logging.getLogger(__name__)

_Key = tuple[Path, Path, int, bool, bool]
_registered: dict[str, tuple[_Key, DatasetSummary]] = {}
# Which logs have the summary of a data set.
_described: dict[str, list[logging.Handler]] = {}


def register_coco_json(
    name: str,
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    set_aside_unmasked: bool = False,
    open_files: bool = False,
) -> DatasetSummary:
    """Checks a COCO-format JSON and registers it in Detectron2 under a name.

    Classes and their indices come from the JSON's categories, in the order of their ids. What
    cannot be used is left out with a counted warning, in evaluation too.

    Args:
        name: The name to register.
        json_file: Annotations in COCO's format.
        image_root: The folder that the JSON's file names start from.
        set_aside_unmasked: Whether objects without a mask become crowd regions: neither trained
            on nor counted in evaluation. Without it, one such object ends the evaluation of
            masks with an error.
        open_files: Whether to open every image, to see whether its size is that of the JSON.

    Returns:
        What is in it, and what was left out.
    """
    json_path, root = (Path(path).expanduser().resolve() for path in (json_file, image_root))
    # With the time of the last change, an edited JSON is read again in the same session.
    changed = json_path.stat().st_mtime_ns if json_path.is_file() else 0
    key = (json_path, root, changed, set_aside_unmasked, open_files)
    # A name may have been taken out of Detectron2's catalogue since.
    is_listed = name in DatasetCatalog.list()
    if is_listed and name in _registered and _registered[name][0] == key:
        return _registered[name][1]
    if is_listed and name not in _registered and name not in embedded_names():
        raise ValueError(
            f"a data set needs a name of its own, but {name!r} is registered already; give another"
        )
    content = read_coco_json(json_path)
    cleaned, summary = check_coco(
        content, json_path, root, set_aside_unmasked=set_aside_unmasked, open_files=open_files
    )
    # One version of a JSON says it all; the one with crowd regions differs by them alone.
    is_suspicious = not set_aside_unmasked and (summary.problems or summary.suspicions)
    _described.pop(name, None)
    _describe(name, summary, logging.WARNING if is_suspicious else logging.INFO)
    # Most JSONs need no copy.
    unchanged = cleaned == content
    _put_into_catalogs(name, json_path if unchanged else _write_cleaned(cleaned, name), summary)
    _registered[name] = (key, summary)
    return summary


def ensure_dataset(name: str) -> DatasetSummary | None:
    """Makes sure that a data set can be loaded by its name, making it where the package can.

    Args:
        name: ``trees_train``, ``scenes_v1_val``, ..., or any name in Detectron2's catalogue.

    Returns:
        What is in it, where the package registered it.
    """
    embedded = embedded_names().get(name)
    if embedded is not None:
        dataset, split = embedded
        root = datasets_root()
        prepare_dataset(dataset, root)
        summary = register_coco_json(
            name, dataset.json_file(root, split), dataset.image_root(root, split)
        )
        MetadataCatalog.get(name).sources_file = str(root / dataset.folder / "SOURCES.txt")
        return summary
    if name not in DatasetCatalog.list():
        raise ValueError(
            f"there is no data set {name!r}. The package can make {sorted(embedded_names())}; your "
            "own data are given by data.train=my.json data.images=folder"
        )
    if name in _registered:
        return _registered[name][1]
    json_file = MetadataCatalog.get(name).get("json_file", "")
    if json_file and not os.path.exists(json_file):
        raise FileNotFoundError(
            f"the data set {name!r} must have its annotations at {json_file}, found nothing. Set "
            "DETECTRON2_DATASETS to the folder that holds it, or use data that need no download "
            "by hand: data.train=trees_train data.val=trees_val (or scenes_v1_train, "
            "scenes_v1_val)"
        )
    return None


def registered_summary(name: str) -> DatasetSummary | None:
    """Returns what is in a data set that was registered here, without making any."""
    if name not in _registered or name not in DatasetCatalog.list():
        return None
    return _registered[name][1]


def get_dataset_dicts(
    names: str | Sequence[str], filter_empty: bool = True, **arguments: Any
) -> list[dict[str, Any]]:
    """Returns Detectron2's dataset dicts, after making the data sets where need be.

    Args:
        names: One or several names of data sets.
        filter_empty: Whether to leave out images without objects.
        **arguments: Passed on to Detectron2's ``get_detection_dataset_dicts``.

    Returns:
        One entry per image, all data sets in one list.
    """
    listed = [names] if isinstance(names, str) else list(names)
    if not listed or not all(listed):
        raise ValueError(f"a data set must be named, got {names!r}")
    # None stands for data sets that were registered elsewhere: nothing is known about them here.
    summaries = {name: ensure_dataset(name) for name in listed}
    known = {name: summary for name, summary in summaries.items() if summary is not None}
    for name, summary in known.items():
        # What was said when it was registered may have come before there was a log.
        _describe(name, summary, logging.INFO)
    if (
        filter_empty
        and len(known) == len(summaries)
        and not any(each.num_annotations for each in known.values())
    ):
        files = " and ".join(str(each.json_file) for each in known.values())
        raise ValueError(f"training needs at least one object, but no image of {files} has any")
    return list(get_detection_dataset_dicts(listed, filter_empty=filter_empty, **arguments))


def check_registered_splits(train: str, val: str) -> None:
    """Checks that two registered data sets have the same classes; warns of images in both.

    Args:
        train: Name of the data set to train on.
        val: Name of the one to evaluate on.
    """
    first, second = ensure_dataset(train), ensure_dataset(val)
    if first is None or second is None or train == val:
        return
    check_classes(first, second)
    if comm.is_main_process():
        names = str(first.json_file), str(second.json_file)
        for sentence in find_shared_images(first, second).sentences(*names, second.num_images):
            logger.warning("%s", sentence)


def _describe(name: str, summary: DatasetSummary, level: int) -> None:
    """Says what is in a data set, once in each log, which the main process has."""
    logs = _handlers(logger)
    if _described.get(name) == logs or not comm.is_main_process():
        return
    logger.log(level, "%s", summary.describe())
    # Before a run sets up its log, this goes nowhere, or to the terminal alone.
    if logger.isEnabledFor(logging.INFO):
        _described[name] = logs


def _handlers(source: logging.Logger) -> list[logging.Handler]:
    above = source.parent if source.propagate else None
    return [*source.handlers, *(_handlers(above) if above else [])]


def _put_into_catalogs(name: str, json_file: Path, summary: DatasetSummary) -> None:
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
    loader = partial(load_coco_json, str(json_file), str(summary.image_root), name)
    if name in embedded_names():
        # The root may change, and the data with it.
        loader = partial(_load_embedded, name)
    DatasetCatalog.register(name, loader)
    MetadataCatalog.get(name).set(
        json_file=str(json_file),
        # What a person gave: the other may be a copy of what is usable of it.
        source_json=str(summary.json_file),
        image_root=str(summary.image_root),
        evaluator_type="coco",
        thing_classes=list(summary.class_names),
        thing_dataset_id_to_contiguous_id={
            number: index for index, number in enumerate(summary.category_ids)
        },
    )


def _write_cleaned(cleaned: dict[str, Any], name: str) -> Path:
    """Writes what is usable of a JSON where training and evaluation can read it."""
    text = json.dumps(cleaned)
    file_name = f"{Path(name).name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        folder = datasets_root() / ".checked"
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(folder / file_name, text)
    except OSError:
        # Data often lie where only an administrator can write.
        folder = Path(tempfile.mkdtemp(prefix="piip_d2_data_"))
        write_text_atomically(folder / file_name, text)
    return folder / file_name


def _load_embedded(name: str) -> list[dict[str, Any]]:
    ensure_dataset(name)
    metadata = MetadataCatalog.get(name)
    return list(load_coco_json(metadata.json_file, metadata.image_root, name))


for _name in embedded_names():
    if _name not in DatasetCatalog.list():
        DatasetCatalog.register(_name, partial(_load_embedded, _name))
