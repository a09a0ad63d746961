"""Data: rendered scenes, embedded and own data sets, mapper and loaders.

Names are resolved on first use: scenes need NumPy, Pillow and pycocotools alone, the rest needs
Detectron2.
"""

from __future__ import annotations

import importlib

_PUBLIC_NAMES = {
    "DatasetSummary": "checks",
    "PIIPDatasetMapper": "mapper",
    "Scene": "scenes",
    "SceneOptions": "scenes",
    "UnusableImageError": "image_reading",
    "apply_data_section": "overrides",
    "build_test_loader": "loader",
    "build_train_loader": "loader",
    "ensure_dataset": "registration",
    "federated_class_weights": "long_tail",
    "get_dataset_dicts": "registration",
    "get_repeated_dataset_dicts": "long_tail",
    "read_image": "image_reading",
    "register_coco_json": "registration",
    "render_scene": "scenes",
    "write_scenes": "scene_files",
}

__all__ = list(_PUBLIC_NAMES)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
