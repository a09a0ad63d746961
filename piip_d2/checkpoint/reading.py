"""Reading checkpoint files of any origin, whole or not at all."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

# What PyTorch says first, before a reason of which only its authors can make something.
_SAFE_LOADING_FAILED = "Weights only load failed"


class CheckpointReadError(ValueError):
    """A checkpoint file that cannot be read."""


def check_is_there(path: str, fetch: Callable[[str], str]) -> None:
    """Checks that there is a checkpoint, and fetches it where it is not a local file.

    Args:
        path: A file or an address; a query behind "?" is no part of either.
        fetch: Returns the local copy of what an address names.

    Raises:
        CheckpointReadError: If there is none, or it cannot be fetched.
    """
    file = urlparse(path)._replace(query="").geturl()
    if "://" in file:
        try:
            file = fetch(file)
        except (OSError, RuntimeError) as error:  # no connection, or no such name in a catalogue
            raise CheckpointReadError(f"the checkpoint {path} cannot be fetched: {error}") from None
    if not os.path.isfile(file):
        raise CheckpointReadError(f"the checkpoint {path} does not exist")


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a file of PyTorch, whose check sums are verified, without running code from it.

    Args:
        path: The file.

    Returns:
        What it holds; among that are weights by name.

    Raises:
        CheckpointReadError: If it is damaged, or holds no weights.
    """
    try:
        check_archive(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointReadError:
        raise
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        raise unreadable(path, error) from error
    check_has_weights(path, loaded)
    return dict(loaded)


def check_archive(path: str) -> None:
    """Compares the check sums in a file of PyTorch, at which PyTorch itself does not look.

    Args:
        path: The file; one of an old format has no sums.

    Raises:
        CheckpointReadError: If a sum is wrong.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = damaged_record(archive)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise unreadable(path, error) from error
    if damaged:
        raise CheckpointReadError(f"the checkpoint {path} is damaged in {damaged}")


def damaged_record(archive: zipfile.ZipFile) -> str | None:
    """Compares the check sums of what ``torch.save`` has written.

    Args:
        archive: It, opened.

    Returns:
        Name of the first record whose sum is wrong; None if there is none, or there are no sums.
    """
    # torch.serialization.set_crc32_options(False) leaves all sums out, as 0.
    has_sums = any(record.CRC for record in archive.infolist())
    return archive.testzip() if has_sums else None


def unreadable(path: str, error: Exception) -> CheckpointReadError:
    """Describes what went wrong on reading a file."""
    reason = re.split(r"\n|\. ", str(error))[0][:200] or type(error).__name__
    # Bytes of another format make PyTorch's unpickler look for things that are not there.
    if isinstance(error, LookupError) or reason.startswith(_SAFE_LOADING_FAILED):
        reason = "it is not in PyTorch's format"
    return CheckpointReadError(
        f"the checkpoint {path} cannot be read: it is truncated, damaged, or holds more than "
        f"tensors and plain values ({reason})"
    )


def check_has_weights(path: str, loaded: Any) -> None:
    """Raises :class:`CheckpointReadError` if what was read has no weights by name."""
    weights = loaded.get("model", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(weights, Mapping) or not _holds_tensors(weights):
        raise without_weights(path, loaded, ("model", "state_dict"))


def without_weights(path: str, loaded: Any, containers: Sequence[str]) -> CheckpointReadError:
    """Describes what a file holds in place of weights by name, looked for in containers too."""
    seen = sorted(map(str, loaded))[:8] if isinstance(loaded, Mapping) else type(loaded).__name__
    return CheckpointReadError(
        f"the checkpoint {path} has no weights by name, neither at its top level nor under "
        f"{', '.join(map(repr, containers))}; it holds {seen}"
    )


def _holds_tensors(weights: Mapping[str, Any]) -> bool:
    weights = weights.get("state_dict", weights)
    return any(
        isinstance(value, Tensor) or hasattr(value, "__array__") for value in weights.values()
    )
