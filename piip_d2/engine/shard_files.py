"""Whether the files of a sharded checkpoint are whole, which PyTorch does not ask on loading.

Each share of a tensor lies in its file as ``torch.save`` writes it, with check sums if those are
not switched off. The index, which says where, has none: the checkpointer keeps it elsewhere.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from detectron2.utils import comm

from piip_d2.checkpoint.reading import CheckpointReadError, damaged_record

# torch.distributed.checkpoint writes it last: without it a folder is unfinished.
INDEX = ".metadata"


def read_in_all(read: Callable[[], Any]) -> Any:
    """Reads in all processes, which call it together; a file may be whole for some of them alone.

    Args:
        read: Reads the same in each.

    Returns:
        What this process has read.

    Raises:
        CheckpointReadError: In all processes, if any of them could not read.
    """
    found: Any = None
    failure: Exception | None = None
    try:
        found = read()
    except (CheckpointReadError, OSError) as error:
        failure = error
    # The others would wait for ever for one that goes on to another checkpoint.
    for reason in comm.all_gather(failure and str(failure)):
        if reason is not None:
            raise CheckpointReadError(reason) from failure
    return found


def index_sum(folder: Path) -> int:
    """Returns the check sum of a checkpoint's index."""
    return zlib.crc32((folder / INDEX).read_bytes())


def read_index(folder: Path, expected_sum: int | None) -> dcp.Metadata:
    """Reads what a checkpoint holds, and where; a pickle, which can run code.

    Args:
        folder: The checkpoint.
        expected_sum: From :func:`index_sum`; None if it is not known.

    Returns:
        The index.

    Raises:
        CheckpointReadError: If it is damaged.
    """
    try:
        is_damaged = expected_sum is not None and index_sum(folder) != expected_sum
        if not is_damaged:
            return dcp.FileSystemReader(folder).read_metadata()
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        raise CheckpointReadError(f"{folder / INDEX} cannot be read") from error
    raise CheckpointReadError(f"{folder / INDEX} is damaged: its check sum is wrong")


def check_shares(folder: Path, index: dcp.Metadata) -> None:
    """Compares all check sums; all processes call it together, and each reads some of the files.

    Args:
        folder: The checkpoint.
        index: Of :func:`read_index`.

    Raises:
        CheckpointReadError: In all processes, if a file is missing, truncated or damaged.
    """
    places: defaultdict[str, list[Any]] = defaultdict(list)
    for place in index.storage_data.values():
        places[place.relative_path].append(place)
    own = sorted(places)[comm.get_rank() :: comm.get_world_size()]
    found = [damage for name in own if (damage := _damage(folder / name, places[name]))]
    everywhere = [damage for of_one in comm.all_gather(found) for damage in of_one]
    if everywhere:
        raise CheckpointReadError(everywhere[0])


def _damage(file: Path, places: Sequence[Any]) -> str:
    """Says what is wrong with a file, "" for nothing."""
    try:
        with file.open("rb") as stream:
            for place in places:
                stream.seek(place.offset)
                with zipfile.ZipFile(io.BytesIO(stream.read(place.length))) as archive:
                    if damaged_record(archive):
                        return f"{file} is damaged: a check sum in it is wrong"
    except Exception as error:  # arbitrary bytes taken for an archive raise nearly anything
        return f"{file} cannot be read: it is missing, truncated or damaged ({error})"
    return ""
