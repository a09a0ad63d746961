"""What a checkpoint says about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from torch import nn

import piip_d2

_COMPARED = {
    "class_names": "classes",
    "resolutions": "branch resolutions",
    "pixel_mean": "pixel mean",
    "pixel_std": "pixel standard deviation",
    "channel_order": "channel order",
}


def describe_run(cfg: DictConfig, model: nn.Module, config_text: str) -> dict[str, Any]:
    """Collects what is needed to use a model's weights later.

    Args:
        cfg: The configuration; its data sets must be registered.
        model: The model, not wrapped for data parallelism.
        config_text: The configuration as YAML.

    Returns:
        Plain Python values; None where something is unknown.
    """
    class_names, category_ids = _classes(cfg)
    return {
        "package_version": piip_d2.__version__,
        "class_names": class_names,
        "category_ids": category_ids,
        "resolutions": _resolutions(model),
        "pixel_mean": _pixel_values(model, "pixel_mean"),
        "pixel_std": _pixel_values(model, "pixel_std"),
        "channel_order": _channel_order(cfg, model),
        "config": config_text,
    }


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Compares the description in a checkpoint with that of the present run.

    Args:
        saved: The description in the checkpoint.
        present: That of the run.

    Returns:
        One sentence per difference; what one of the two does not know is no difference.
    """
    sentences = []
    for key, words in _COMPARED.items():
        before, now = saved.get(key), present.get(key)
        if before is not None and now is not None and before != now:
            sentences.append(
                f"the checkpoint was made with {words} {_short(before)}, this run has {_short(now)}"
            )
    return sentences


def check_num_classes(model: nn.Module, class_names: list[str] | None) -> None:
    """Checks that a detector is built for as many classes as the data have.

    Args:
        model: The detector.
        class_names: Classes of the data, or None if they are not known.

    Raises:
        ValueError: If the numbers differ.
    """
    for name, module in model.named_modules():
        number = getattr(module, "num_classes", None)
        counts_objects = not name.startswith("backbone") and "sem_seg" not in name
        if not class_names or not isinstance(number, int) or not counts_objects:
            continue
        if number != len(class_names):
            key = ".".join(filter(None, ("model", name, "num_classes")))
            raise ValueError(
                f"the data have {len(class_names)} classes ({_short(class_names)}) but {key} is "
                f"{number}; give the data as data.train=… data.val=…, which sets all numbers of "
                f"classes, or set {key}={len(class_names)}"
            )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{value[:6]} and {len(value) - 6} more"
    return str(value)


def _classes(cfg: DictConfig) -> tuple[list[str] | None, list[int] | None]:
    """Returns names and the data's own category ids, both by class index."""
    for dataset in _dataset_names(cfg):
        if dataset in MetadataCatalog.list():
            metadata = MetadataCatalog.get(dataset)
            names = metadata.get("thing_classes", None)
            if names:
                indices = metadata.get("thing_dataset_id_to_contiguous_id", None) or {}
                ids = [int(number) for number in sorted(indices, key=indices.__getitem__)]
                return [str(name) for name in names], ids or None
    return None, None


def _dataset_names(cfg: DictConfig) -> Iterator[str]:
    for split in ("train", "test"):
        loader = OmegaConf.select(cfg, f"dataloader.{split}", default=None)
        for key, value in _walk(loader):
            if key in ("names", "dataset", "dataset_name"):
                yield from [value] if isinstance(value, str) else _strings(value)


def _channel_order(cfg: DictConfig, model: nn.Module) -> str | None:
    for key, value in _walk(OmegaConf.select(cfg, "dataloader.train", default=None)):
        if key == "image_format" and isinstance(value, str):
            return value
    order = getattr(model, "input_format", None)
    return order if isinstance(order, str) else None


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        for key in node:
            if not OmegaConf.is_missing(node, key):
                value = node[key]
                yield str(key), value
                yield from _walk(value)


def _strings(value: Any) -> list[str]:
    if isinstance(value, DictConfig) or not hasattr(value, "__iter__"):
        return []
    return [item for item in value if isinstance(item, str)]


def _resolutions(model: nn.Module) -> list[int] | None:
    for module in model.modules():
        branches = getattr(module, "branches", None)
        if isinstance(branches, nn.ModuleList):
            sizes = [getattr(branch, "img_size", None) for branch in branches]
            known = [size for size in sizes if isinstance(size, int)]
            return sorted(known, reverse=True) if known else None
    return None


def _pixel_values(model: nn.Module, name: str) -> list[float] | None:
    buffer = getattr(model, name, None)
    if buffer is None:
        return None
    return [float(value) for value in buffer.flatten().tolist()]
