"""Weights of single networks, read from files and addresses without running code from them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from timm.models import is_model_pretrained
from torch import Tensor

from piip_d2.checkpoint.foreign_files import find_checkpoint, read_foreign_checkpoint
from piip_d2.checkpoint.reading import CheckpointReadError, check_archive, unreadable
from piip_d2.modeling.backbone.timm_branch import create_pretrained

TIMM = "timm://"
# Of a file of safetensors: 8 bytes with the length of its header, which is JSON.
_SAFETENSORS_START = 9


def read_weights(source: str, *, verify: bool = True) -> dict[str, Tensor]:
    """Reads the weights of a network.

    Args:
        source: A file of PyTorch or safetensors; an address that Detectron2 can open, such as an
            URL; or ``timm://`` and a name, for the weights that timm knows for it.
        verify: Whether to compare the check sums in a file of PyTorch, which reads all of it.

    Returns:
        Tensors by name, on the CPU; those of a file are read from there as they are needed.

    Raises:
        CheckpointReadError: If there is no such file or address, or if it is damaged, holds code
            or holds no weights by name.
    """
    if is_of_timm(source):
        return _from_timm(source)
    path = find_checkpoint(source)
    if _is_safetensors(path):
        try:
            return load_file(path)
        except Exception as error:  # what its parser raises is an undocumented class
            raise unreadable(source, error) from error
    if verify:
        check_archive(str(path))
    return read_foreign_checkpoint(path)


def is_of_timm(source: str) -> bool:
    """Tells whether a source is a name of timm's, and neither a file nor an address."""
    return source.startswith(TIMM)


def check_timm_name(source: str) -> None:
    """Checks that timm knows weights of a name, without fetching them.

    Args:
        source: ``timm://`` and the name.

    Raises:
        CheckpointReadError: If it does not.
    """
    name = source.removeprefix(TIMM)
    # Names like "hf-hub:…" say where to look, which shows on looking.
    if ":" not in name and not is_model_pretrained(name):
        raise CheckpointReadError(
            f"timm gives no weights for the name {name!r}; "
            f"timm.list_pretrained() lists those it has"
        )


def _from_timm(source: str) -> dict[str, Tensor]:
    name = source.removeprefix(TIMM)
    try:
        return dict(create_pretrained(name, num_classes=0).state_dict())
    except ValueError as error:
        raise CheckpointReadError(str(error)) from error


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(_SAFETENSORS_START)
    return start.endswith(b"{") and len(start) == _SAFETENSORS_START
