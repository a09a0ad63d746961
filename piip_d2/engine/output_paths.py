"""Checks of where a program shall write, for before it does anything that takes long."""

from __future__ import annotations

import os
from pathlib import Path


def check_output_file(path: Path, setting: str = "--output") -> None:
    """Refuses a file that cannot be written.

    Args:
        path: The file; its folder must be there.
        setting: What errors call the place where it was given.

    Raises:
        ValueError: If it is a folder, lies in none, or is protected.
    """
    if path.is_dir():
        raise ValueError(f"{setting} must be a file, got the folder {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{setting} must lie in a folder that there is, got {path}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{setting} must be a file that can be written, got {path}")


def check_output_folder(path: Path, setting: str = "--output") -> None:
    """Refuses a folder that can neither be used nor made; does not make it.

    Args:
        path: The folder; those that it lies in need not be there either.
        setting: What errors call the place where it was given.

    Raises:
        ValueError: If it or what it lies in is a file, or is protected.
    """
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        raise ValueError(f"{setting} must be a folder, got {path}: {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise ValueError(f"{setting} must be a folder that can be written to, got {path}")
