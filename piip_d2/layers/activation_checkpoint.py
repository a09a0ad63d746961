"""Activations that are computed again in the backward pass instead of being kept.

Training deep nets with sublinear memory cost, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

ACT_CHECKPOINT_MODES = ("block", "stage", "selective")

# What is dear to compute and no larger than a map: products with weights. Products of features with
# features (`bmm`) are attention where no fused kernel does it, and as large as its logits.
_KEPT_OPERATORS = frozenset(
    {"aten::mm", "aten::addmm", "aten::convolution", "aten::_convolution", "piip_d2::linear"}
)


class ActivationCheckpointing(nn.Module):
    """A module that can compute activations of its parts again in the backward pass.

    Results and gradients stay the same to the bit on a CPU: random numbers are drawn again as
    before, and autocast is as it was.
    """

    _act_checkpoint: bool | str = False

    @property
    def use_act_checkpoint(self) -> bool | str:
        """What is computed again; heeded in training alone.

        False keeps everything. ``"block"``, for which True stands too, keeps the input of each
        block (layer, interaction). ``"stage"`` keeps the input of all blocks between two
        interactions, and is ``"block"`` for what has no such stages. ``"selective"`` keeps, inside
        the blocks, what products with weights and convolutions give, and computes attention, norms
        and activations again. Anything else raises a ValueError.
        """
        return self._act_checkpoint

    @use_act_checkpoint.setter
    def use_act_checkpoint(self, mode: bool | str) -> None:
        self._act_checkpoint = check_act_checkpoint(mode)

    def run_checkpointed(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function, in training so that its activations are computed again if wanted.

        Args:
            function: A module, or any function that gives the same whenever it is called.
            *args: Its arguments.

        Returns:
            Its result.
        """
        if not (self.use_act_checkpoint and self.training):
            return function(*args)
        if self.use_act_checkpoint != "selective":
            return checkpoint(function, *args, use_reentrant=False)
        # Operators are counted, and with a cache a cast of a weight might run but once of twice.
        is_compiled = torch.compiler.is_compiling()
        with nullcontext() if is_compiled else _without_autocast_cache():
            return checkpoint(function, *args, use_reentrant=False, context_fn=_selective_contexts)


def check_act_checkpoint(mode: bool | str) -> bool | str:
    """Refuses what is no mode.

    Args:
        mode: What a configuration says.

    Returns:
        The same.

    Raises:
        ValueError: If there is no such mode.
    """
    if isinstance(mode, bool) or mode in ACT_CHECKPOINT_MODES:
        return mode
    raise ValueError(
        f"activation checkpointing must be False, True or one of {ACT_CHECKPOINT_MODES}, got "
        f"{mode!r}"
    )


def _keep_products(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    # Operators of higher order, which compilation brings, have no schema.
    schema = getattr(operator, "_schema", None)
    if schema is not None and schema.name in _KEPT_OPERATORS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


# A partial, which torch.compile can look into.
_selective_contexts = functools.partial(create_selective_checkpoint_contexts, _keep_products)


@contextmanager
def _without_autocast_cache() -> Iterator[None]:
    is_enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(is_enabled)
