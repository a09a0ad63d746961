"""Weights of single networks, read from files and addresses without running code from them."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from piip_d2._optional import require

TIMM = "timm://"
# What training programs wrap the weights in.
_WRAPPERS = ("model", "state_dict", "module")
# Of a file of safetensors: 8 bytes with the length of its header, which is JSON.
_SAFETENSORS_START = 9


def read_weights(source: str) -> dict[str, Tensor]:
    """Reads the weights of a network.

    Args:
        source: A file of PyTorch or safetensors; an address that Detectron2 can open, such as an
            URL; or ``timm://`` and a name, for the weights that timm knows for it.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: If there is no such file or address, or if it is damaged, holds code or holds
            no weights by name.
    """
    if source.startswith(TIMM):
        return _from_timm(source)
    path = _local_copy(source)
    try:
        loaded = _load(path)
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(
            f"the weights {source} cannot be read: the file is truncated, damaged, or holds more "
            f"than tensors and plain values ({reason})"
        ) from error
    return _unwrapped(loaded, source)


def _from_timm(source: str) -> dict[str, Tensor]:
    name = source.removeprefix(TIMM)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # each way to fetch weights fails in ways of its own
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise ValueError(f"timm gives no weights for the name {name!r}: {reason}") from error
    return dict(network.state_dict())


def _local_copy(source: str) -> str:
    path = source
    if "://" in source:
        manager = require("detectron2.utils.file_io", "opening addresses").PathManager
        try:
            path = manager.get_local_path(source)
        except (OSError, RuntimeError, ValueError) as error:  # no connection, or no such name
            raise ValueError(f"the weights {source} cannot be fetched: {error}") from error
    if not os.path.isfile(path):
        raise ValueError(f"the weights {source} do not exist")
    return path


def _load(path: str) -> Any:
    with open(path, "rb") as file:
        start = file.read(_SAFETENSORS_START)
    if start.endswith(b"{") and len(start) == _SAFETENSORS_START:
        return load_file(path)
    if zipfile.is_zipfile(path):
        # PyTorch does not look at the check sums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the check sum of {damaged} is wrong")
    # Programs keep their arguments beside the weights: plain values, in a class of their own.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrapped(loaded: Any, source: str) -> dict[str, Tensor]:
    inner = loaded
    while isinstance(inner, Mapping):
        wrapper = next((name for name in _WRAPPERS if isinstance(inner.get(name), Mapping)), None)
        if wrapper is None:
            break
        inner = inner[wrapper]
    weights = inner.items() if isinstance(inner, Mapping) else ()
    tensors = {str(name): value for name, value in weights if isinstance(value, Tensor)}
    if not tensors:
        seen = sorted(map(str, loaded))[:8] if isinstance(loaded, Mapping) else type(loaded)
        raise ValueError(
            f"the weights {source} have no tensors by name, neither at the top level nor under "
            f"{', '.join(map(repr, _WRAPPERS))}; the file holds {seen}"
        )
    return tensors
