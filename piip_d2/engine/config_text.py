"""Configurations as text."""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

logger = logging.getLogger(__name__)


def config_as_yaml(cfg: DictConfig) -> str:
    """Writes a configuration as YAML.

    A warning names what YAML cannot hold, such as a lambda.

    Args:
        cfg: The configuration.

    Returns:
        The text, which cannot be loaded again after that warning; "" if there can be none.
    """
    with tempfile.TemporaryDirectory() as folder, _silent("detectron2.config.lazy"):
        # Detectron2 writes to files only.
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        # Its way out; no program here reads such a file.
        is_loadable = bool(text) and not Path(f"{path}.pkl").exists()
    if not is_loadable:
        logger.warning(
            "A config that is saved must have plain values and functions with a name, got %s: %s. "
            "Define a named function in a module instead, or go on with the config file of this "
            "start instead of config.yaml.",
            ", ".join(_without_name(OmegaConf.to_container(cfg))) or "something else",
            "its YAML can be read but not loaded" if text else "there is no YAML of it",
        )
    return text


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Drops the messages of a logger, which name files that are removed at once."""
    source = logging.getLogger(name)

    def drop(record: logging.LogRecord) -> bool:
        return False

    source.addFilter(drop)
    try:
        yield
    finally:
        source.removeFilter(drop)


def _without_name(value: Any, place: str = "") -> list[str]:
    """Names the values that another process could not find or make again."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        found = [_without_name(part, f"{place}.{key}") for key, part in parts]
        return [name for names in found for name in names]
    try:
        pickle.dumps(value)
    except Exception:  # objects may raise anything when they are pickled
        return [f"{place.removeprefix('.')}={value!r}"]
    return []
