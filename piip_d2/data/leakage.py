"""Images that training and validation share: what is measured on them says nothing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .checks import DatasetSummary

__all__ = ["SharedImages", "find_shared_images"]

# Enough to tell apart images of one size in bytes without reading them in full.
_SAMPLE_BYTES = 4096
NUM_NAMED = 3


@dataclass(frozen=True)
class SharedImages:
    """Images of a validation split that are in the training split too.

    Args:
        same_content: Those whose file has the same bytes as one of the training split, under
            whatever name.
        same_name: Those of another content that only have the file name of one.
    """

    same_content: tuple[str, ...]
    same_name: tuple[str, ...]

    def sentences(self, train: str, val: str, num_images: int) -> list[str]:
        """Writes what to say about them.

        Args:
            train: What to call the training split.
            val: What to call the validation split.
            num_images: How many images that one has.

        Returns:
            A sentence for each of the two kinds that there is.
        """
        found = []
        if self.same_content:
            found.append(
                f"{len(self.same_content)} of the {num_images} images of {val} are also in {train} "
                f"({_in_short(self.same_content)}): what is measured on them says nothing about "
                "new images"
            )
        if self.same_name:
            found.append(
                f"{len(self.same_name)} of the {num_images} images of {val} have the file name of "
                f"one in {train}, with other bytes ({_in_short(self.same_name)}): make sure that "
                "they are not the same pictures, saved again"
            )
        return found


def find_shared_images(train: DatasetSummary, val: DatasetSummary) -> SharedImages:
    """Finds images of a validation split that a training split has too.

    Bytes are compared only where the sizes of two files agree.

    Args:
        train: Summary of the training split.
        val: Summary of the other one.

    Returns:
        The images of the other one, by what they share.
    """
    known: dict[int, list[Path]] = defaultdict(list)
    for path in _files(train):
        known[path.stat().st_size].append(path)
    names = {Path(name).name for name in train.image_files}
    contents = _Contents()
    same_content, same_name = [], []
    for name, path in zip(val.image_files, _files(val), strict=True):
        if contents.has(path, known.get(path.stat().st_size, ())):
            same_content.append(name)
        elif Path(name).name in names:
            same_name.append(name)
    return SharedImages(tuple(sorted(same_content)), tuple(sorted(same_name)))


class _Contents:
    """Tells files with the same bytes, and remembers what it has read."""

    def __init__(self) -> None:
        self._samples: dict[Path, bytes] = {}
        self._digests: dict[Path, bytes] = {}

    def has(self, path: Path, others: Iterable[Path]) -> bool:
        """Tells whether a file has the same bytes as one of others of its size."""
        for other in others:
            if other == path:
                return True
            if self._sample(path) == self._sample(other) and self._digest(path) == self._digest(
                other
            ):
                return True
        return False

    def _sample(self, path: Path) -> bytes:
        if path not in self._samples:
            with path.open("rb") as file:
                # Headers are often the same, and so are the ends of plain bitmaps.
                file.seek(path.stat().st_size // 2)
                self._samples[path] = hashlib.blake2b(file.read(_SAMPLE_BYTES)).digest()
        return self._samples[path]

    def _digest(self, path: Path) -> bytes:
        if path not in self._digests:
            self._digests[path] = hashlib.blake2b(path.read_bytes()).digest()
        return self._digests[path]


def _files(summary: DatasetSummary) -> Iterator[Path]:
    for name in summary.image_files:
        yield summary.image_root / name


def _in_short(names: tuple[str, ...]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")
