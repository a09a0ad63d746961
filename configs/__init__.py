"""Configurations of PIIP detectors, usable from a checkout and from an installed package.

``configs/`` is the package ``piip_d2.configs``. A folder is a detector, a file an experiment;
``ablations/`` holds the paper's variations of the Mask R-CNNs, ``common/`` what all share.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

__all__ = ["find_config_file", "get_config", "get_config_file", "list_configs"]


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
        name: As in ``"mask_rcnn/piip_tsb_1120_896_448_1x"``, with or without ``configs/`` before
            and ``.py`` behind it.

    Returns:
        The path.

    Raises:
        ValueError: If there is no such experiment; the message has names that look alike.
    """
    stem = name.removeprefix("configs/").removesuffix(".py")
    if stem not in list_configs():
        raise ValueError(f"no configuration named {name!r}{_hint(stem)}")
    return str(_root() / f"{stem}.py")


def find_config_file(path_or_name: str) -> str:
    """Path of a configuration that is given by its path or, if it is one of these, by its name.

    Args:
        path_or_name: A file, which goes first, or a name as :func:`get_config` takes it.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is neither; the message has names that look alike.
    """
    if Path(path_or_name).is_file():
        return path_or_name
    try:
        return get_config_file(path_or_name)
    except ValueError as error:
        raise FileNotFoundError(
            f"the config file {path_or_name} does not exist, and there is {error}"
        ) from None


def get_config(name: str) -> DictConfig:
    """Loads an experiment from wherever the package is installed.

    Args:
        name: As in ``"mask_rcnn/piip_tsb_1120_896_448_1x"``, with or without ``configs/`` before
            and ``.py`` behind it.

    Returns:
        The configuration, to be changed at will: every call loads it anew.

    Raises:
        ValueError: If there is no such experiment; the message has names that look alike.
    """
    return LazyConfig.load(get_config_file(name))


def _root() -> Path:
    return Path(str(resources.files(__name__)))


def _hint(stem: str) -> str:
    """The end of a sentence: names that look like one that is none."""
    known = list_configs()
    parts = Path(stem).parts
    # The same experiment of another detector, or the path of its file from elsewhere.
    near = [name for name in known if parts and name.split("/")[1] == parts[-1]]
    near += get_close_matches("/".join(parts[-2:]), known, n=3, cutoff=0.6)
    if not near:
        near = get_close_matches(parts[-1] if parts else "", known, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
    return f"; {meant}piip_d2.list_configs() lists all {len(known)}"
