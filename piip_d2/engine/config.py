"""From a config file and a command line to the configuration of a run."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

import piip_d2
from piip_d2._optional import available, require
from piip_d2.engine.overrides import apply_overrides

logger = logging.getLogger(__name__)

_SECTIONS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Loads a config file, completes its ``train`` section and applies overrides.

    The overrides of the chosen ``train.preset`` come first, so that explicit ones win. Its name
    then moves to ``train.applied_preset``, so what is saved and loaded again stays what it is.

    Args:
        path: A Python file, the ``config.yaml`` of an earlier run, or the name of a published
            configuration (see :func:`piip_d2.list_configs`).
        overrides: Strings ``path.to.key=value``.

    Returns:
        The configuration.

    Raises:
        ValueError: If the file is no configuration, or an override does not fit it.
        FileNotFoundError: If there is no such file, nor such a name; the message has names that
            look alike.
    """
    cfg = LazyConfig.load(find_config(path))
    lacking = [name for name in _SECTIONS if name not in cfg]
    if lacking:
        raise ValueError(
            f"the config file {path} lacks the section(s) {', '.join(lacking)}; a configuration "
            f"to train has {', '.join(_SECTIONS)}"
        )
    cfg.train = OmegaConf.merge(default_train_section(), cfg.train)
    presets = cfg.train.presets
    apply_overrides(cfg, overrides)
    if cfg.train.preset:
        if cfg.train.preset not in presets:
            raise ValueError(
                f"train.preset must be one of {sorted(presets)}, got {cfg.train.preset!r}"
            )
        apply_overrides(cfg, [*presets[cfg.train.preset], *overrides])
        cfg.train.applied_preset = cfg.train.preset
        cfg.train.preset = ""
    return cfg


def find_config(path: str) -> str:
    """Finds the file of a configuration.

    Args:
        path: As for :func:`load_config`.

    Returns:
        The path, or address, of the file.

    Raises:
        ValueError: If nothing is given.
        FileNotFoundError: As :func:`load_config`.
    """
    if not path:
        raise ValueError("no config file given: use --config-file path/to/config.py")
    if "://" in path or Path(path).is_file():
        return path
    # A source tree that is only on the path has no configurations by name.
    if not available("piip_d2.configs"):
        raise FileNotFoundError(f"the config file {path} does not exist")
    found: str = require("piip_d2.configs", "names").find_config_file(path)
    return found


def default_train_section() -> DictConfig:
    """Returns the ``train`` section of ``configs/common/train.py``."""
    spec = importlib.util.find_spec("piip_d2.configs")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    # In a source tree on PYTHONPATH, configs/ stands beside the package.
    folders.append(str(Path(piip_d2.__file__).parent.parent / "configs"))
    for folder in folders:
        file = Path(folder) / "common" / "train.py"
        if file.is_file():
            return LazyConfig.load(str(file), "train")
    raise FileNotFoundError(f"common/train.py is in none of the config folders {folders}")
