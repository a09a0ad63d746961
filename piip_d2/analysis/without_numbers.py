"""Models without numbers: on ``meta``, where tensors have shapes and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def without_numbers() -> Iterator[None]:
    """Modules that are built within have no numbers, and lose no time with initial ones."""
    with torch.device("meta"), _SkipInPlace():
        yield


def copy_without_numbers(model: nn.Module) -> nn.Module:
    """Copies a model onto ``meta``; takes no memory, and leaves the model as it is.

    Args:
        model: The model, on any device.

    Returns:
        The copy.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


class _SkipInPlace(TorchDispatchMode):
    """Skips what writes into a tensor without numbers: there is nothing to write into."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._schema.is_mutable and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
