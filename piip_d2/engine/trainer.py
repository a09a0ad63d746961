"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from piip_d2.engine.fully_sharded import (
    average_whole_gradients,
    is_sharded,
    local_part,
    sharded_norm,
)
from piip_d2.engine.metric_state import metric_state, restore_metrics
from piip_d2.engine.precision import Precision
from piip_d2.engine.seeding import seed_everything

# What Detectron2 says of region proposals.
_DIVERGED = "Training has diverged"
_WAYS_OUT = (
    "A lower learning rate (optimizer.lr), a longer warm-up, train.clip_grad.enabled=True, or "
    "train.amp.dtype=bf16 in the place of fp16 usually helps"
)


@dataclass(frozen=True)
class GradientClipping:
    """Upper bound of the norm of all gradients together."""

    max_norm: float
    norm_type: float = 2.0


class Trainer(SimpleTrainer):
    """Detectron2's trainer with accumulation, mixed precision, clipping and exact resumption.

    Before every forward pass the random generators are seeded from the seed, the iteration and the
    number of the batch among all batches of the iteration, those of all processes counted. So a
    resumed run draws what an uninterrupted one would have drawn, and N processes draw together
    what one process draws that averages N batches.

    A checkpoint is taken in the middle of an iteration's ``after_step``: what the hooks behind it
    do (evaluate, write metrics) is not in it. They are registered by
    :meth:`register_hooks_after_checkpoint`, and a resumed run first lets them make up for it.

    Args:
        model: Returns a dict of losses; may be wrapped for data parallelism or sharded.
        optimizer: Updates the model's weights.
        precision: Arithmetic of the forward pass.
        seed: Seed of the run, the same in all processes.
        accumulate: Batches per iteration; their gradients are averaged.
        clipping: Bound of the gradient norm, or None for no bound.
        metric_window: How many iterations of metrics a checkpoint remembers for smoothing.
        exchange_every_batch: Whether a sharded model's gradients travel with every batch, so that
            none is ever kept whole, rather than once an iteration.

    Raises:
        ValueError: If ``accumulate`` is not positive.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        seed: int = 0,
        accumulate: int = 1,
        clipping: GradientClipping | None = None,
        metric_window: int = 20,
        exchange_every_batch: bool = True,
    ) -> None:
        if accumulate < 1:
            raise ValueError(f"train.accumulate must be at least 1, got {accumulate}")
        super().__init__(model, data_loader=(), optimizer=optimizer)
        self.precision = precision
        self.seed = seed
        self.accumulate = accumulate
        self.clipping = clipping
        self._metric_window = metric_window
        self._exchange_every_batch = exchange_every_batch
        self._hooks_after_checkpoint: list[HookBase] = []
        self._inside_step = False
        self._loaded_metrics: dict[str, Any] | None = None
        self._replays_hooks = False

    def register_hooks_after_checkpoint(self, hooks: Iterable[HookBase]) -> None:
        """Registers hooks whose ``after_step`` is repeated when a run is resumed."""
        hooks = list(hooks)
        self.register_hooks(hooks)
        self._hooks_after_checkpoint.extend(hooks)

    @property
    def next_iteration(self) -> int:
        """The iteration to train first: 0, or the one behind the loaded checkpoint."""
        return 0 if self._loaded_metrics is None else self.iter + 1

    @property
    def first_unwritten_iteration(self) -> int:
        """The first iteration whose metrics are still to be written."""
        return self.next_iteration - int(self._replays_hooks)

    def use_data_loader(self, data_loader: Iterable[list[dict[str, Any]]]) -> None:
        """Sets where batches come from; the loader must never end."""
        self.data_loader = data_loader
        self._data_loader_iter_obj = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Trains from one iteration up to another; a hook may lower ``max_iter`` on the way."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            finally:
                self.after_train()

    def before_train(self) -> None:
        super().before_train()
        if self._loaded_metrics is None:
            return
        restore_metrics(self.storage, self._loaded_metrics)
        if self._replays_hooks:
            self.iter -= 1
            self.storage.iter = self.iter
            for hook in self._hooks_after_checkpoint:
                hook.after_step()
            self.iter += 1

    def before_step(self) -> None:
        self._inside_step = True
        super().before_step()

    def after_step(self) -> None:
        super().after_step()
        self._inside_step = False

    def run_step(self) -> None:
        """Averages the gradients of ``accumulate`` batches and updates the weights once."""
        self.optimizer.zero_grad()
        data_time = 0.0
        averages: dict[str, Tensor] = {}
        for index in range(self.accumulate):
            start = time.perf_counter()
            batch = self._next_batch()
            data_time += time.perf_counter() - start
            # Behind the loading, which may itself draw random numbers in this process.
            share = index * comm.get_world_size() + comm.get_rank()
            seed_everything(self.seed, self.iter, 0, share)
            for name, loss in self._forward_backward(batch, index).items():
                part = loss / self.accumulate
                averages[name] = averages[name] + part if name in averages else part
        if is_sharded(self.model):
            average_whole_gradients(self.model)
        self.after_backward()
        norm = self._unscaled_gradient_norm()
        self._write_metrics(averages, data_time)
        self.storage.put_scalar("grad_norm", norm)
        self.precision.step(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        # Inside an iteration `iter` is its number, outside it is the number of finished ones.
        state["iteration"] = self.iter if self._inside_step else self.iter - 1
        state["step_finished"] = not self._inside_step
        state["seed"] = self.seed
        state["grad_scaler"] = self.precision.scaler.state_dict()
        state["metrics"] = metric_state(self.storage, self._metric_window)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # A run keeps its seed, also one that was drawn.
        self.seed = state_dict.get("seed", self.seed)
        if state_dict.get("grad_scaler"):
            self.precision.scaler.load_state_dict(state_dict["grad_scaler"])
        self._loaded_metrics = state_dict.get("metrics", {})
        self._replays_hooks = not state_dict.get("step_finished", True)

    def _next_batch(self) -> list[dict[str, Any]]:
        try:
            return next(self._data_loader_iter)
        except StopIteration:
            raise RuntimeError(
                f"the training data ended at iteration {self.iter}; "
                "dataloader.train must build a loader that goes on for ever"
            ) from None

    def _forward_backward(self, batch: list[dict[str, Any]], index: int) -> dict[str, Tensor]:
        with self._gradient_exchange(last=index == self.accumulate - 1):
            losses = self._losses(batch)
            if isinstance(losses, Tensor):
                losses = {"total_loss": losses}
            _check_finite(losses, self.iter, batch)
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            self.precision.backward(total / self.accumulate)
        return {name: loss.detach().float() for name, loss in losses.items()}

    def _losses(self, batch: list[dict[str, Any]]) -> Any:
        try:
            with self.precision.autocast():
                return self.model(batch)
        except FloatingPointError as error:
            # So Detectron2's proposals end a training, with no word on what to do.
            if _DIVERGED not in str(error):
                raise
            raise FloatingPointError(
                f"training has diverged: region proposals are not finite at iteration {self.iter} "
                f"(images: {_file_names(batch)}); the weights were not updated. {_WAYS_OUT}"
            ) from error

    def _gradient_exchange(self, *, last: bool) -> AbstractContextManager[None]:
        # Gradients travel between processes once an iteration, with the last batch.
        if isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last or self._exchange_every_batch)
        if last or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        # A static graph is learnt from backward passes that exchange; to leave this out in later
        # ones only would let a resumed run round differently.
        return nullcontext() if self.model.static_graph else self.model.no_sync()

    def _unscaled_gradient_norm(self) -> float:
        self.precision.unscale(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm_type = self.clipping.norm_type if self.clipping else 2.0
        if is_sharded(self.model):
            norm = sharded_norm(gradients, norm_type, torch.device(self.precision.device_type))
        else:
            norm = nn.utils.get_total_norm(gradients, norm_type)
        # Clipping by a norm that is infinite would hide which gradients are to blame.
        if not math.isfinite(norm) and not self.precision.skips_overflow:
            raise FloatingPointError(
                f"{_describe_gradients(self.model)} at iteration {self.iter}, though the losses "
                f"are; the weights were not updated. {_WAYS_OUT}"
            )
        if self.clipping and is_sharded(self.model):
            _clip_shares(gradients, self.clipping.max_norm, norm)
        elif self.clipping:
            nn.utils.clip_grads_with_norm_(parameters, self.clipping.max_norm, norm)
        return float(norm)


def _clip_shares(gradients: list[Tensor], max_norm: float, norm: Tensor) -> None:
    """Does to shares of gradients what ``clip_grads_with_norm_`` does to whole ones."""
    factor = float((max_norm / (norm + 1e-6)).clamp(max=1.0))
    for gradient in gradients:
        local_part(gradient).mul_(factor)


def _check_finite(losses: dict[str, Tensor], iteration: int, batch: list[dict[str, Any]]) -> None:
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    if bool(torch.isfinite(values).all()):
        return
    named = dict(zip(losses, values.tolist(), strict=True))
    bad = {name: value for name, value in named.items() if not math.isfinite(value)}
    raise FloatingPointError(
        f"loss term(s) {bad} are not finite at iteration {iteration} (all terms: {named}; images: "
        f"{_file_names(batch)}); the weights were not updated. {_WAYS_OUT}"
    )


def _file_names(batch: list[dict[str, Any]]) -> list[str]:
    return [str(sample.get("file_name", "?")) for sample in batch if isinstance(sample, dict)]


def _describe_gradients(model: nn.Module) -> str:
    """Says whose gradients are not finite, or at least whose are the largest."""
    # Small weights that are sharded leave some processes nothing, which has no maximum.
    largest = {
        name: float(local_part(parameter.grad).abs().max())
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and local_part(parameter.grad).numel()
    }
    bad = [name for name, value in largest.items() if not math.isfinite(value)]
    if bad:
        rest = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        return f"the gradients of {', '.join(bad[:3])}{rest} are not finite"
    # Large values overflow in the sum, and other processes hold other shares.
    name = max(largest, key=largest.__getitem__, default="none")
    value = largest.get(name, 0.0)
    return f"the norm of all gradients is not finite (the largest seen is {value:.3g}, of {name})"
