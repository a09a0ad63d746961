"""Finds the storages that a network makes and that outlive its forward pass."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Names in a count: what no part makes, and what autocast makes of weights.
OTHER = "other"
WEIGHT_COPIES = "weights_in_16_bit"


class StorageWatch(TorchDispatchMode):
    """Remembers every storage that is made, and by which part of a network.

    A part begins where one of its modules is called and ends where that returns; a module of
    another part inside counts for that one.

    Args:
        parts: Names of parts and modules whose work is theirs.
        weights: Tensors that are there before and do not count; copies in another type do.
        inputs: Others that are there before.
    """

    def __init__(
        self,
        parts: Iterable[tuple[str, nn.Module]],
        weights: Iterable[Tensor],
        inputs: Iterable[Tensor],
    ) -> None:
        super().__init__()
        self._weights = {_key(tensor) for tensor in weights}
        self._known = self._weights | {_key(tensor) for tensor in inputs}
        self._seen: dict[int, tuple[StorageWeakRef, str, int]] = {}
        self._running = [OTHER]
        self._hooks = [
            hook
            for name, module in parts
            for hook in (
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave, always_call=True),
            )
        ]

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        is_copy = func is torch.ops.aten._to_copy.default and _key(args[0]) in self._weights
        part = WEIGHT_COPIES if is_copy else self._running[-1]
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._remember(tensor, part)
        return result

    def count(self) -> dict[str, int]:
        """Bytes of the storages that are still alive, by part, and of converted weights."""
        gc.collect()
        counts: Counter[str] = Counter()
        for reference, part, size in self._seen.values():
            if not reference.expired():
                counts[part] += size
        return dict(counts)

    def _remember(self, tensor: Tensor, part: str) -> None:
        key = _key(tensor)
        if key in self._known:
            return
        # A storage may stand where another was that is gone.
        if key not in self._seen or self._seen[key][0].expired():
            storage = tensor.untyped_storage()
            self._seen[key] = (StorageWeakRef(storage), part, storage.nbytes())

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._running.append(name)

        return enter

    def _leave(self, *_: Any) -> None:
        self._running.pop()


def _key(tensor: Tensor) -> int:
    """Tells storages apart as long as they live."""
    return tensor.untyped_storage()._cdata
