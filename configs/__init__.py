"""Configurations of PIIP detectors, usable from a checkout and from an installed package.

``configs/`` is the package ``piip_d2.configs``. A folder is a detector, a file an experiment;
``ablations/`` holds the paper's variations of the Mask R-CNNs, ``common/`` what all share.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

__all__ = ["get_config", "get_config_file", "list_configs"]


def list_configs() -> list[str]:
    """Names of all experiments, as :func:`get_config` takes them."""
    root = _root()
    files = (path.relative_to(root) for path in root.glob("*/*.py"))
    return sorted(
        path.with_suffix("").as_posix()
        for path in files
        if path.parts[0] != "common" and path.stem != "__init__"
    )


def get_config_file(name: str) -> str:
    """Path of an experiment's file.

    Args:
        name: As in ``"mask_rcnn/piip_tsb_1120_896_448_1x"``, with or without ``.py``.

    Raises:
        ValueError: If there is no such experiment.
    """
    stem = name.removesuffix(".py")
    if stem not in list_configs():
        raise ValueError(f"no configuration named {name!r}; there are: {', '.join(list_configs())}")
    return str(_root() / f"{stem}.py")


def get_config(name: str) -> DictConfig:
    """Loads an experiment from wherever the package is installed.

    Args:
        name: As in ``"mask_rcnn/piip_tsb_1120_896_448_1x"``, with or without ``.py``.

    Returns:
        The configuration, to be changed at will: every call loads it anew.

    Raises:
        ValueError: If there is no such experiment.
    """
    return LazyConfig.load(get_config_file(name))


def _root() -> Path:
    return Path(str(resources.files(__name__)))
