"""Follows the storages that a network makes, from their making to their end."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Names in a count: what no part makes, and what autocast makes of weights.
OTHER = "other"
WEIGHT_COPIES = "weights_in_16_bit"


class StorageWatch(TorchDispatchMode):
    """Counts the bytes that are alive, and remembers the moment when there were most.

    A part begins where one of its modules is called and ends where that returns; a module of
    another part inside counts for that one. What operators need for themselves while they run does
    not show.

    Args:
        parts: Names of parts and modules whose work is theirs.
        weights: Tensors that are there before and do not count.
        counts_weight_copies: Whether copies of weights in another type count.
    """

    def __init__(
        self,
        parts: Iterable[tuple[str, nn.Module]] = (),
        weights: Iterable[Tensor] = (),
        *,
        counts_weight_copies: bool = True,
    ) -> None:
        super().__init__()
        self._weights = {_key(tensor) for tensor in weights}
        self._counts_weight_copies = counts_weight_copies
        # Those that count, and those that do not.
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._ignored: dict[int, weakref.ref[Any]] = {}
        self._counts: Counter[str] = Counter()
        self._total = 0
        self.peak = 0
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
        if func is torch.ops.aten._local_scalar_dense.default and is_fake(args[0]):
            # Optimizers ask for the number of their step.
            return 1.0
        result = func(*args, **(kwargs or {}))
        is_copy = func is torch.ops.aten._to_copy.default and _key(args[0]) in self._weights
        part = WEIGHT_COPIES if is_copy else self._running[-1]
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                if is_copy and not self._counts_weight_copies:
                    self.ignore(tensor)
                self._follow(tensor, part)
        return result

    def ignore(self, tensor: Tensor) -> None:
        """From now on, what a tensor stands in does not count."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._ignored:
            self._ignored[key] = weakref.ref(storage, lambda _: self._ignored.pop(key, None))

    @property
    def total(self) -> int:
        """Bytes that are alive now."""
        return self._total

    def count(self) -> dict[str, int]:
        """Bytes that are alive now, by part, and of converted weights."""
        return {part: size for part, size in self._counts.items() if size}

    def restart_peak(self) -> None:
        """Forgets the highest number so far."""
        self.peak = self._total

    def _follow(self, tensor: Tensor, part: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._weights or key in self._ignored or key in self._alive:
            return
        size = storage.nbytes()

        def forget(_: object) -> None:
            # Before another storage can stand at the same place.
            del self._alive[key]
            self._counts[part] -= size
            self._total -= size

        self._alive[key] = weakref.ref(storage, forget)
        self._counts[part] += size
        self._total += size
        self.peak = max(self.peak, self._total)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._running.append(name)

        return enter

    def _leave(self, *_: Any) -> None:
        self._running.pop()


def _key(tensor: Tensor) -> int:
    """Tells storages apart as long as they live."""
    return tensor.untyped_storage()._cdata
