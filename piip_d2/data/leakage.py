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
_DIGEST_BYTES = 16
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
    known = _Files(_paths(train))
    names = {Path(name).name for name in train.image_files}
    same_content, same_name = [], []
    for name, path in zip(val.image_files, _paths(val), strict=True):
        if known.have_content_of(path):
            same_content.append(name)
        elif Path(name).name in names:
            same_name.append(name)
    return SharedImages(tuple(sorted(same_content)), tuple(sorted(same_name)))


class _Files:
    """Files by their content, of which no more is read than tells them from others."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = set(paths)
        self._by_size: dict[int, list[Path]] = defaultdict(list)
        for path in self._paths:
            self._by_size[path.stat().st_size].append(path)
        # Files of a size by their sample, and digests of those with one size and sample.
        self._by_sample: dict[int, dict[bytes, list[Path]]] = {}
        self._digests: dict[tuple[int, bytes], set[bytes]] = {}

    def have_content_of(self, path: Path) -> bool:
        """Tells whether a file has the same bytes as one of these, or is one of them."""
        if path in self._paths:
            return True
        size = path.stat().st_size
        if size not in self._by_size:
            return False
        if size not in self._by_sample:
            groups = defaultdict(list)
            for other in self._by_size[size]:
                groups[_sample(other)].append(other)
            self._by_sample[size] = groups
        sample = _sample(path)
        if sample not in self._by_sample[size]:
            return False
        key = size, sample
        if key not in self._digests:
            self._digests[key] = {_digest(other) for other in self._by_sample[size][sample]}
        return _digest(path) in self._digests[key]


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        # Headers are often the same, and so are the ends of plain bitmaps.
        file.seek(path.stat().st_size // 2)
        return hashlib.blake2b(file.read(_SAMPLE_BYTES), digest_size=_DIGEST_BYTES).digest()


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=_DIGEST_BYTES).digest()


def _paths(summary: DatasetSummary) -> Iterator[Path]:
    for name in summary.image_files:
        yield summary.image_root / name


def _in_short(names: tuple[str, ...]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")
