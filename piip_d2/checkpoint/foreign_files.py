"""Reading checkpoints that other programs have written, without running code from them."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from piip_d2._optional import require
from piip_d2.checkpoint.pickled_names import refused_code
from piip_d2.checkpoint.reading import (
    CheckpointReadError,
    check_is_there,
    unreadable,
    without_weights,
)

# In the order in which mmcv looks for them; DeepSpeed writes "module", many others "model".
_CONTAINERS = ("state_dict", "module", "model")
_DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
_DEEPSPEED_LATEST = "latest"
_DATA_PARALLEL = "module."
# PyTorch's old format begins with a pickle of this number.
_LEGACY_MAGIC = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")
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


@dataclass(frozen=True)
class ForeignDetector:
    """What is of use in a checkpoint of another program.

    Args:
        weights: Tensors by name, without a leading ``module.``.
        config: The text of the configuration it was trained with, empty if it is not there.
    """

    weights: dict[str, Tensor]
    config: str


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
    return read_foreign_detector(path, unsafe=unsafe).weights


def read_foreign_detector(path: Path, *, unsafe: bool = False) -> ForeignDetector:
    """Reads a checkpoint as :func:`read_foreign_checkpoint`, with what it says about itself.

    Args:
        path: The file.
        unsafe: See there.

    Returns:
        What is of use in it.

    Raises:
        CheckpointReadError: If the file is damaged, wants to run code or holds no weights.
    """
    loaded = _load(path, unsafe=unsafe)
    weights = _find_weights(loaded)
    if not weights:
        raise without_weights(str(path), loaded, _CONTAINERS)
    if all(name.startswith(_DATA_PARALLEL) for name in weights):
        weights = {name.removeprefix(_DATA_PARALLEL): x for name, x in weights.items()}
    meta = loaded.get("meta")
    # mmdetection 2 and 3.
    configs = [meta.get(key) for key in ("config", "cfg")] if isinstance(meta, Mapping) else []
    config = next((text for text in configs if isinstance(text, str)), "")
    return ForeignDetector(weights, config)


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


def _load(path: Path, *, unsafe: bool) -> Any:
    try:
        if unsafe and _is_plain_pickle(path):
            with open(path, "rb") as file:
                return pickle.load(file)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(
                path,
                map_location="cpu",
                weights_only=not unsafe,
                # Names and shapes are there at once, however large the file.
                mmap=zipfile.is_zipfile(path),
            )
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        refused = None if unsafe else refused_code(path, error)
        raise refused or unreadable(str(path), error) from error


def _is_plain_pickle(path: Path) -> bool:
    """Tells pickles from the three formats of PyTorch, which would run their code in vain."""
    with open(path, "rb") as file:
        is_legacy = _LEGACY_MAGIC in file.read(len(_LEGACY_MAGIC) + 8)
    return not (is_legacy or zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def _find_weights(loaded: Any) -> dict[str, Tensor]:
    """Tensors by name, from within containers before those that stand beside them."""
    if not isinstance(loaded, Mapping):
        return {}
    for container in _CONTAINERS:
        weights = _find_weights(loaded.get(container))
        if weights:
            return weights
    return {str(name): x for name, x in loaded.items() if isinstance(x, Tensor)}
