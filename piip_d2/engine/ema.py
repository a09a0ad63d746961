"""Exponential moving average of a model's trainable weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Average over the training of the weights that are trained, in their own dtype.

    Buffers and frozen weights are not averaged: they are the model's. The decay ramps up as
    (1 + n) / (warmup + n) with the number n of updates, so that the random start is forgotten
    quickly.

    Args:
        model: The model, not wrapped for data parallelism.
        decay: Weight of the past per update, in the long run.
        warmup: The larger, the slower the first updates; at least 1.

    Raises:
        ValueError: If decay or warmup is out of range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9998, warmup: int = 10) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"train.ema.decay must lie in [0, 1), got {decay}")
        if warmup < 1:
            raise ValueError(f"train.ema.warmup must be at least 1, got {warmup}")
        self.decay = decay
        self.warmup = warmup
        self.num_updates = 0
        self._model = model
        self.weights = {name: p.detach().clone() for name, p in _trained(model).items()}

    def current_decay(self) -> float:
        """Returns the decay of the next update."""
        return min(self.decay, (1 + self.num_updates) / (self.warmup + self.num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the model's present weights."""
        step = 1.0 - self.current_decay()
        parameters = _trained(self._model)
        for name, average in self.weights.items():
            average.lerp_(parameters[name].detach(), step)
        self.num_updates += 1

    @torch.no_grad()
    def reset(self) -> None:
        """Starts anew from the model's present weights."""
        parameters = _trained(self._model)
        for name, average in self.weights.items():
            average.copy_(parameters[name])
        self.num_updates = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the average into the model, and the model's own weights back at the end."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def averaged_state_dict(self) -> dict[str, Tensor]:
        """Returns the model's state dict with the averaged weights in it."""
        return {**self._model.state_dict(), **self.weights}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": dict(self.weights), "num_updates": self.num_updates}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if set(state["weights"]) != set(self.weights):
            differing = sorted(set(state["weights"]) ^ set(self.weights))
            raise ValueError(
                "the moving average in the checkpoint is of other weights than those trained now; "
                f"first differences: {differing[:5]}"
            )
        for name, average in self.weights.items():
            average.copy_(state["weights"][name])
        self.num_updates = int(state["num_updates"])

    @torch.no_grad()
    def _swap(self) -> None:
        parameters = _trained(self._model)
        for name, average in self.weights.items():
            own = parameters[name].detach().clone()
            parameters[name].copy_(average)
            average.copy_(own)


class EMAHook(HookBase):
    """Updates a moving average after every iteration."""

    def __init__(self, ema: ExponentialMovingAverage) -> None:
        self._ema = ema

    def after_step(self) -> None:
        self._ema.update()


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.is_floating_point()
    }
