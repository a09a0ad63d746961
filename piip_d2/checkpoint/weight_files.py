"""Weights of single networks, read from files and addresses without running code from them."""

from __future__ import annotations

from pathlib import Path

import timm
from safetensors.torch import load_file
from torch import Tensor

from piip_d2.checkpoint.foreign_files import find_checkpoint, read_foreign_checkpoint, verify_file
from piip_d2.checkpoint.reading import CheckpointReadError, unreadable

TIMM = "timm://"
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
        CheckpointReadError: If there is no such file or address, or if it is damaged, holds code
            or holds no weights by name.
    """
    if source.startswith(TIMM):
        return _from_timm(source)
    path = find_checkpoint(source)
    if _is_safetensors(path):
        try:
            return load_file(path)
        except Exception as error:  # what its parser raises is an undocumented class
            raise unreadable(source, error) from error
    verify_file(path)
    return read_foreign_checkpoint(path)


def _from_timm(source: str) -> dict[str, Tensor]:
    name = source.removeprefix(TIMM)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # each way to fetch weights fails in ways of its own
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise CheckpointReadError(
            f"timm gives no weights for the name {name!r}: {reason}"
        ) from error
    return dict(network.state_dict())


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(_SAFETENSORS_START)
    return start.endswith(b"{") and len(start) == _SAFETENSORS_START
