"""Files that are either complete or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_PART_SUFFIX = ".part"


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place and moves it there once it is safely on the disk.

    Whoever opens ``path`` sees the old or the new content, also after a crash of the machine. If
    anything fails, the unfinished file is removed and the old one stays.

    Args:
        path: Where the file shall stand; its folder must exist.
        write: Receives the open binary file and fills it.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART_SUFFIX}")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8 as :func:`write_atomically` does."""
    data = text.encode("utf-8")

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)


def remove_unfinished(folder: str | Path) -> list[Path]:
    """Removes what killed processes left unfinished in a folder, and returns it."""
    leftovers = sorted(Path(folder).glob(f".*{_PART_SUFFIX}"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return leftovers


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost in a power failure.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some network file systems refuse to sync folders
    finally:
        os.close(descriptor)
