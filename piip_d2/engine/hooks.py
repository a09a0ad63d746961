"""Hooks of the training loop, on top of Detectron2's."""

from __future__ import annotations

import logging
import math
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer
from detectron2.utils import comm

from piip_d2.engine.checkpointer import AtomicCheckpointer, CheckpointSaveError
from piip_d2.engine.interruption import Interruption, TrainingInterrupted

logger = logging.getLogger(__name__)


class CheckpointHook(PeriodicCheckpointer):
    """Saves checkpoints periodically, at the end, and before ending on a signal.

    A failed save costs nothing but itself: training goes on, and the next period tries again.

    Args:
        checkpointer: Writes the files.
        period: Iterations from one checkpoint to the next.
        max_to_keep: How many periodic checkpoints stay; None keeps all.
        interruption: Where to look for signals.
    """

    def __init__(
        self,
        checkpointer: AtomicCheckpointer,
        period: int,
        max_to_keep: int | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        if period < 1:
            raise ValueError(f"train.checkpointer.period must be at least 1, got {period}")
        if max_to_keep is not None and max_to_keep < 1:
            raise ValueError(
                f"train.checkpointer.max_to_keep must be at least 1 or null, got {max_to_keep}"
            )
        super().__init__(checkpointer, period, max_to_keep=max_to_keep)
        self._interruption = interruption
        self._failure: CheckpointSaveError | None = None
        self._final_iteration: int | None = None

    def before_train(self) -> None:
        super().before_train()
        if self.checkpointer.save_to_disk and self.trainer.start_iter > 0:
            self.recent_checkpoints = [
                path
                for path in sorted(self.checkpointer.get_all_checkpoint_files())
                if _periodic_iteration(path, self.file_prefix) < self.trainer.start_iter
            ]

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if self.checkpointer.save_to_disk:
            self._attempt(self.step, iteration)
        signal_name = self._interruption.name() if self._interruption else None
        if signal_name:
            # The last iteration has been saved as the final one.
            unsaved = (iteration + 1) % self.period and iteration + 1 < self.trainer.max_iter
            if self.checkpointer.save_to_disk and unsaved:
                self._attempt(self._save, f"{self.file_prefix}_{iteration:07d}", iteration)
            raise TrainingInterrupted(
                f"Ended by {signal_name} behind iteration {iteration}; --resume goes on from "
                f"{self.checkpointer.get_checkpoint_file() or 'the beginning'}."
            )

    def after_train(self) -> None:
        done = self.trainer.iter
        unsaved = self._final_iteration != done - 1
        if done >= self.trainer.max_iter and self.checkpointer.save_to_disk and unsaved:
            self._attempt(self._save, f"{self.file_prefix}_final", done - 1)
        if self._interruption and done >= self.trainer.max_iter:
            # Nothing is left to be saved: the evaluation to come may end at once.
            self._interruption.release()

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Saves what is due at the end of an iteration."""
        if (iteration + 1) % self.period == 0:
            self._save(f"{self.file_prefix}_{iteration:07d}", iteration)
            if self.max_to_keep is not None:
                self._keep(self.checkpointer.get_checkpoint_file(), self.max_to_keep)
        if self.max_iter is not None and iteration >= self.max_iter - 1:
            self._save(f"{self.file_prefix}_final", iteration)
            self._final_iteration = iteration

    def raise_if_unsaved(self) -> None:
        """Raises the error of the last save, if it failed and none has succeeded since."""
        if self._failure is not None:
            raise self._failure

    def _save(self, name: str, iteration: int) -> None:
        self.checkpointer.save(name, iteration=iteration)

    def _keep(self, path: str, max_to_keep: int) -> None:
        """Notes a checkpoint and removes the oldest one if there are too many."""
        self.recent_checkpoints.append(path)
        if len(self.recent_checkpoints) > max_to_keep:
            oldest = self.recent_checkpoints.pop(0)
            try:
                self.checkpointer.remove(oldest)
            except OSError as error:
                # In one process alone this must not end a training whose save succeeded.
                logger.warning("%s cannot be removed (%s); remove it yourself.", oldest, error)

    def _attempt(self, save: Callable[..., None], *args: Any) -> None:
        try:
            save(*args)
        except CheckpointSaveError as error:
            self._failure = error
            logger.error("%s. Training goes on; the next checkpoint tries again.", error)
        else:
            self._failure = None


class EvaluationHook(EvalHook):
    """Detectron2's evaluation hook, which evaluates no model twice nor one that failed.

    Args:
        period: Iterations from one evaluation to the next; 0 evaluates only at the end.
        evaluate: Evaluates the model; all processes call it.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, Any]]) -> None:
        super().__init__(period, evaluate)
        self._evaluated: int | None = None

    def after_step(self) -> None:
        self._evaluated = None
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done < self.trainer.max_iter:
            self._do_eval()
            self._evaluated = done

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter and self._evaluated != self.trainer.iter:
            self._do_eval()
        # The function knows the trainer, which knows this hook.
        del self._func


class BestWeightsHook(BestCheckpointer):
    """Keeps the best weights so far, in the main process.

    The file of the weights knows how good they are, so a resumed run does too.
    """

    def before_train(self) -> None:
        if not self._checkpointer.save_to_disk:
            self._period = 0
        elif self.trainer.start_iter > 0:
            best = self._checkpointer.saved_value(self._file_prefix, self._val_metric)
            if best is not None:
                self._update_best(*best)

    def after_train(self) -> None:
        if self._checkpointer.save_to_disk and self.trainer.iter >= self.trainer.max_iter:
            self._best_checking()

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest()
        if self._checkpointer.is_collective:
            # Only the main process knows the metrics, and all must save together.
            latest = comm.all_gather(dict(latest))[0]
        if self._val_metric not in latest:
            logger.warning(
                "train.best.metric=%s is not among the evaluated metrics %s; no best weights are "
                "kept.",
                self._val_metric,
                sorted(name for name in latest if "/" in name),
            )
            return
        value, iteration = latest[self._val_metric]
        is_best = self.best_metric is None or self._compare(value, self.best_metric)
        if math.isnan(value) or not is_best:
            return
        try:
            self._checkpointer.save_best(self._file_prefix, self._val_metric, value, iteration)
        except CheckpointSaveError as error:
            logger.error("%s. Training goes on without these weights.", error)
        else:
            self._update_best(value, iteration)
            logger.info("%s reached its best value so far, %.5f.", self._val_metric, value)


class EarlyStoppingHook(HookBase):
    """Ends a training whose metric no longer improves.

    Args:
        eval_period: Iterations from one evaluation to the next.
        metric: Name of the metric, such as "bbox/AP".
        mode: "max" if larger is better, "min" if smaller is.
        patience: After so many evaluations without improvement the training ends.
        min_delta: What counts as an improvement.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        eval_period: int,
        metric: str,
        mode: str = "max",
        patience: int = 5,
        min_delta: float = 0.0,
    ) -> None:
        if eval_period < 1:
            raise ValueError(f"train.early_stopping needs train.eval_period > 0, got {eval_period}")
        if mode not in ("max", "min"):
            raise ValueError(f"train.early_stopping.mode must be 'max' or 'min', got {mode!r}")
        if patience < 1:
            raise ValueError(f"train.early_stopping.patience must be at least 1, got {patience}")
        self._period = eval_period
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._patience = patience
        self._min_delta = min_delta
        self._best: float | None = None
        self._without_improvement = 0

    def before_train(self) -> None:
        if self._without_improvement >= self._patience:
            self._stop(self.trainer.iter)

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self._period:
            return
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        if iteration == self.trainer.iter:
            self._judge(self._sign * value)
        # Only the main process knows the metrics, and all must stop together.
        if comm.all_gather(self._without_improvement)[0] >= self._patience:
            self._stop(self.trainer.iter + 1)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "without_improvement": self._without_improvement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = state["best"]
        self._without_improvement = state["without_improvement"]

    def _judge(self, value: float) -> None:
        if self._best is None or value > self._best + self._min_delta:
            self._best = None if math.isnan(value) else value
            self._without_improvement = 0
        else:
            self._without_improvement += 1

    def _stop(self, max_iter: int) -> None:
        logger.info(
            "Stopping early: %s has not improved for %d evaluations.",
            self._metric,
            self._without_improvement,
        )
        self.trainer.max_iter = min(self.trainer.max_iter, max_iter)


class MemoryHook(HookBase):
    """Adds the peak memory of the process, and of its GPU, to the metrics."""

    def __init__(self) -> None:
        # Every evaluation counts its own peak, and for that starts the system's counters anew.
        self._peaks = {"rss": 0.0, "gpu": 0.0}

    def after_step(self) -> None:
        self._note("rss", _peak_memory())
        # Detectron2's printer shows what has "[metric]" in its name, and GPU memory by itself.
        put_scalar = self.trainer.storage.put_scalar
        put_scalar("[metric]max_rss_mb", self._peaks["rss"], smoothing_hint=False)
        if torch.cuda.is_available():
            self._note("gpu", torch.cuda.max_memory_allocated() / 2**20)
            put_scalar("max_gpu_mb", self._peaks["gpu"], smoothing_hint=False)

    def _note(self, kind: str, peak: float) -> None:
        self._peaks[kind] = max(self._peaks[kind], peak)


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _periodic_iteration(path: str, prefix: str) -> float:
    """Returns the iteration in the name of a periodic checkpoint, infinity for other files."""
    digits = path.rsplit("/", 1)[-1].removeprefix(f"{prefix}_").removesuffix(".pth")
    return int(digits) if digits.isdigit() else math.inf
