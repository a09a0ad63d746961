"""Configurations of PIIP detectors, usable from a checkout and from an installed package.

``configs/`` is the package ``piip_d2.configs``. A folder is a detector, a file an experiment;
``ablations/`` holds the paper's variations of the Mask R-CNNs, ``common/`` what all share.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from importlib import resources
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

__all__ = ["find_config_file", "get_config", "get_config_file", "list_configs"]

# How much of two names is the same where they look alike, from 0 to 1.
_ALIKE = 0.5
_MOST_NAMED = 3
_MOST_BESIDE = 8


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
    """The end of a sentence: names that look like one that is none, or else those beside it."""
    known = list_configs()
    # A name, or the path of its file from elsewhere.
    wanted = "/".join(Path(stem).parts[-2:])

    def likeness(name: str) -> tuple[float, float]:
        # Alone, the whole name would make all in one folder look alike.
        experiment = wanted.split("/")[-1], name.split("/")[-1]
        return _ratio(*experiment), _ratio(wanted, name)

    near = sorted(known, key=likeness, reverse=True)[:_MOST_NAMED]
    near = [name for name in near if likeness(name)[0] >= _ALIKE]
    beside = [name for name in known if name.split("/")[0] == wanted.split("/")[0]]
    if near:
        meant = f"did you mean {' or '.join(near)}? "
    elif beside:
        more = ["..."] if len(beside) > _MOST_BESIDE else []
        meant = f"there are {', '.join([*beside[:_MOST_BESIDE], *more])}; "
    else:
        meant = ""
    return f"; {meant}piip_d2.list_configs() lists all {len(known)}"


def _ratio(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()
