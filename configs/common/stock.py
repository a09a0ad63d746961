"""Access to the LazyConfigs that come with Detectron2."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig


def load_stock(name: str) -> DictConfig:
    """Loads one of Detectron2's own configurations, as its ``model_zoo.get_config`` does.

    That function is not used since it needs ``pkg_resources``, which new setuptools lack.

    Args:
        name: Path below Detectron2's ``configs/``: ``"common/models/mask_rcnn_fpn.py"``.

    Raises:
        FileNotFoundError: If this Detectron2 has no such file.
    """
    package = Path(str(resources.files("detectron2")))
    # Detectron2's installation puts its configs into model_zoo; in a bare checkout that is only
    # on the path they stand beside the package.
    roots = [package / "model_zoo" / "configs", package.parent / "configs"]
    for root in roots:
        if (root / name).is_file():
            return LazyConfig.load(str(root / name))
    raise FileNotFoundError(
        f"this Detectron2 ({package}) comes without its configuration {name!r}; looked in "
        f"{' and '.join(map(str, roots))}. Install it with pip, or put all of its checkout there"
    )
