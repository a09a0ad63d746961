"""Checks of where a program shall write, for before it does anything that takes long."""

from __future__ import annotations

import os
from pathlib import Path

_MAY_ADD = os.W_OK | os.X_OK


def check_output_file(path: Path, setting: str = "--output") -> None:
    """Refuses a file that cannot be written.

    Args:
        path: The file; its folder must be there.
        setting: What errors call the place where it was given.

    Raises:
        ValueError: If it is a folder, lies in none, or is protected.
    """
    # Path.exists() and the like raise an error below a folder that may not be searched.
    if os.path.isdir(path):
        raise ValueError(f"{setting} must be a file, got the folder {path}")
    if not os.path.isdir(path.parent):
        raise ValueError(f"{setting} must lie in a folder that there is, got {path}; make it first")
    exists = os.path.exists(path)
    if not os.access(path if exists else path.parent, os.W_OK if exists else _MAY_ADD):
        raise ValueError(f"{setting} must be a file that can be written, got {path}")


def check_output_folder(path: Path, setting: str = "--output") -> None:
    """Refuses a folder that can neither be used nor made; does not make it.

    Args:
        path: The folder; those that it lies in need not be there either.
        setting: What errors call the place where it was given.

    Raises:
        ValueError: If it or what it lies in is a file, is protected or cannot be reached.
    """
    existing = next(filter(_exists, (path, *path.parents)), None)
    if existing is None:
        raise ValueError(f"{setting} must lie in a folder that can be reached, got {path}")
    if not existing.is_dir():
        raise ValueError(f"{setting} must be a folder, got {path}: {existing} is a file")
    if not os.access(existing, _MAY_ADD):
        raise ValueError(f"{setting} must be a folder that can be written to, got {path}")


def _exists(place: Path) -> bool:
    try:
        return os.path.exists(place.absolute())
    except FileNotFoundError:
        # The folder that the program was started in is gone.
        return False
