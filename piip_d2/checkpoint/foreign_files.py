"""Reading checkpoints that other programs have written, without running code from them."""

from __future__ import annotations

import argparse
import contextlib
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from piip_d2._optional import require
from piip_d2.checkpoint.reading import (
    CheckpointReadError,
    check_archive,
    check_is_there,
    unreadable,
)

# In the order in which mmcv looks for them; DeepSpeed writes "module", many others "model".
_CONTAINERS = ("state_dict", "module", "model")
_DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
_DEEPSPEED_LATEST = "latest"
_DATA_PARALLEL = "module."
# Plain values in classes of their own, which training programs store beside the weights.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("bool", "int64", "float32", "float64")),
    *(
        (np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar")
        for module in ("numpy._core", "numpy.core")
    ),
]


def find_checkpoint(source: str) -> Path:
    """Finds the file that a path or an address names.

    Args:
        source: A file, an address that Detectron2's path manager knows, or a folder that DeepSpeed
            has written.

    Returns:
        The local file.

    Raises:
        CheckpointReadError: If there is none.
    """
    if "://" in source:
        fetch = require("detectron2.utils.file_io", "opening addresses").PathManager.get_local_path
        check_is_there(source, fetch)
        return Path(fetch(source))
    if Path(source).is_dir():
        return _deepspeed_file(Path(source))
    check_is_there(source, str)
    return Path(source)


def read_foreign_checkpoint(path: Path, *, unsafe: bool = False) -> dict[str, Tensor]:
    """Reads the weights of a checkpoint, from the disk only as they are needed.

    Args:
        path: The file.
        unsafe: Whether to unpickle whatever the file holds, which runs what it says.

    Returns:
        Tensors by name, without a leading ``module.``.

    Raises:
        CheckpointReadError: If the file is damaged, wants to run code or holds no weights.
    """
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            loaded = torch.load(
                path,
                map_location="cpu",
                weights_only=not unsafe,
                # Names and shapes are there at once, however large the file.
                mmap=zipfile.is_zipfile(path),
            )
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        raise _refused_code(path, error) or unreadable(str(path), error) from error
    weights = _unwrapped(loaded, path)
    if all(name.startswith(_DATA_PARALLEL) for name in weights):
        weights = {name.removeprefix(_DATA_PARALLEL): x for name, x in weights.items()}
    return weights


def verify_file(path: Path) -> None:
    """Reads a whole file once to check its sums, where it has any.

    Args:
        path: The file.

    Raises:
        CheckpointReadError: If it is damaged.
    """
    check_archive(str(path))


def _deepspeed_file(folder: Path) -> Path:
    latest = folder / _DEEPSPEED_LATEST
    folders = [folder]
    if latest.is_file():
        with contextlib.suppress(UnicodeDecodeError):
            folders.insert(0, folder / latest.read_text(encoding="utf-8").strip())
    for candidate in folders:
        file = candidate / _DEEPSPEED_FILE
        if file.is_file():
            return file
    raise CheckpointReadError(
        f"the folder {folder} holds no {_DEEPSPEED_FILE}, neither itself nor in the folder that "
        f"its file {_DEEPSPEED_LATEST!r} names; give the checkpoint file itself"
    )


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    weights = _find_weights(loaded)
    if weights:
        return weights
    seen = sorted(map(str, loaded))[:8] if isinstance(loaded, Mapping) else type(loaded).__name__
    raise CheckpointReadError(
        f"the checkpoint {path} has no weights by name, neither at its top level nor under "
        f"{', '.join(map(repr, _CONTAINERS))}; it holds {seen}"
    )


def _find_weights(loaded: Any) -> dict[str, Tensor]:
    """Tensors by name, from within containers before those that stand beside them."""
    if not isinstance(loaded, Mapping):
        return {}
    for container in _CONTAINERS:
        weights = _find_weights(loaded.get(container))
        if weights:
            return weights
    return {str(name): x for name, x in loaded.items() if isinstance(x, Tensor)}


def _refused_code(path: Path, error: Exception) -> CheckpointReadError | None:
    wanted = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", str(error))
    name = wanted[1] if wanted else _named_in_pickle(path)
    if name is None:
        return None
    return CheckpointReadError(
        f"the checkpoint {path} asks for {name} while it is read, and whatever a file asks for "
        "could be harmful code; if you trust those who made it, save what torch.load with "
        "weights_only=False gives without that, or convert a detector with --unsafe"
    )


def _named_in_pickle(path: Path) -> str | None:
    """Finds what a plain pickle, which PyTorch did not write, would import."""
    strings: list[str] = []
    with open(path, "rb") as file:
        try:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if operation.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
        except ValueError:  # no pickle at all
            return None
    return None
