"""Checkpoints written by all processes together, which any number of processes can read.

``torch.distributed.checkpoint`` writes a folder per checkpoint: each process its share of weights,
their moving average and the optimiser's states. What is no tensor stands beside them in
``rest.pth``. At the end the whole weights are written as one ``model_final.pth`` as well, which
everything else in this package reads.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from detectron2.utils import comm
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from piip_d2._atomic_file import write_atomically
from piip_d2.checkpoint.reading import CheckpointReadError, check_archive, unreadable
from piip_d2.engine.checkpointer import (
    AtomicCheckpointer,
    BestWeightsCheckpointer,
    CheckpointSaveError,
)
from piip_d2.engine.ema import ExponentialMovingAverage
from piip_d2.engine.first_process import in_first_process
from piip_d2.engine.fully_sharded import gather_weights
from piip_d2.engine.shard_files import INDEX, check_shares, index_sum, read_in_all, read_index
from piip_d2.engine.trainer import Trainer
from piip_d2.engine.weight_matching import check_weights

logger = logging.getLogger(__name__)

_REST = "rest.pth"
_INDEX_SUM = "index_sum"
_UNFINISHED = ".unfinished"


class ShardedCheckpointer(AtomicCheckpointer):
    """Saves and resumes folders of shards; all processes call everything here together.

    A folder comes to its name only when it is complete. It must be on a file system that all
    processes see. Its index is a pickle, as PyTorch writes it: resume only what you trust.

    Args:
        model: The model, sharded or, in one process, whole.
        save_dir: Folder of the checkpoints.
        trainer: The training loop, with the optimiser.
        ema: The moving average of the weights, if there is one.
    """

    is_collective = True

    def __init__(
        self,
        model: nn.Module,
        save_dir: str,
        *,
        trainer: Trainer,
        ema: ExponentialMovingAverage | None = None,
    ) -> None:
        super().__init__(model, save_dir)
        self.save_to_disk = True
        self._trainer = trainer
        self._ema = ema

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes the folder ``<name>`` and notes it as the last checkpoint.

        Args:
            name: Name of the folder; "model_final" also gives the file ``model_final.pth``.
            **kwargs: Further plain values to save.

        Raises:
            CheckpointSaveError: In all processes, if any of them could not write.
        """
        path = Path(self.save_dir) / name
        part = path.with_name(f".{name}{_UNFINISHED}")
        logger.info("Saving sharded checkpoint to %s", path)
        rest = self._rest() | kwargs
        try:
            in_first_process(lambda: _clear(part))
            # All processes of a failed save raise the same error.
            dcp.save(
                self._tensors(),
                checkpoint_id=part,
                # Buffers, of which each process may have its own: the first one's are saved.
                planner=dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True),
                no_dist=not dist.is_initialized(),
            )
            in_first_process(lambda: _complete(part, path, rest))
        except (OSError, RuntimeError, dcp.CheckpointException) as error:
            raise CheckpointSaveError(self._describe_failure(path, error)) from error
        if name.endswith("_final"):
            self._export(name, rest)
        if comm.is_main_process():
            self.tag_last_checkpoint(name)
        comm.synchronize()

    def remove(self, path: str) -> None:
        """Removes a checkpoint, its index first, so that a half removed one is not taken."""
        if comm.is_main_process() and Path(path).is_dir():
            (Path(path) / INDEX).unlink(missing_ok=True)
            shutil.rmtree(path)

    def get_all_checkpoint_files(self) -> list[str]:
        """Returns all complete checkpoint folders."""
        return [str(index.parent) for index in Path(self.save_dir).glob(f"model_*/{INDEX}")]

    def load_for(self, purpose: Any, path: str, *, prefer_average: bool = True) -> dict[str, Any]:
        """Loads a checkpoint: a folder to resume from it, a file for any other purpose."""
        if purpose != "resume":
            return super().load_for(purpose, path, prefer_average=prefer_average)
        rest = read_in_all(lambda: self._read_rest(Path(path)))
        # Checkpoints of earlier versions have no sum.
        index = read_in_all(lambda: read_index(Path(path), rest.pop(_INDEX_SUM, None)))
        stored = index.state_dict_metadata
        self._check(stored)
        check_shares(Path(path), index)
        # Fills the tensors where they are.
        known = {name: value for name, value in self._tensors().items() if name in stored}
        try:
            # Where one process cannot read its shares, all raise the same error.
            dcp.load(known, checkpoint_id=path, no_dist=not dist.is_initialized())
        except (OSError, RuntimeError, dcp.CheckpointException) as error:
            raise _unreadable_shards(path, error) from error
        self._forget_unstored_states(stored)
        self._load_rest(rest)
        return {key: value for key, value in rest.items() if key not in ("trainer", "ema")}

    def _resume_candidates(self) -> list[Path]:
        if not self.has_checkpoint():
            return []
        last = Path(self.get_checkpoint_file())
        if last.suffix == ".pth":
            raise ValueError(
                f"{last} was not written with train.fsdp.enabled=True; resume without it, or "
                "begin anew with train.init_checkpoint"
            )
        folders = [Path(path) for path in self.get_all_checkpoint_files()]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [last, *(folder for folder in folders if folder != last)]

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors by name; the optimiser's states are created where there are none yet."""
        optimizer = self._trainer.optimizer
        states: Any = get_optimizer_state_dict(self.model, optimizer)["state"]
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, state in states.items():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        if self._ema:
            tensors |= {f"ema.{name}": value for name, value in self._ema.weights.items()}
        return tensors

    def _rest(self) -> dict[str, Any]:
        """What is no tensor."""
        trainer = self._trainer.state_dict()
        groups = trainer.pop("optimizer")["param_groups"]
        plain = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        rest = {"trainer": trainer, "param_groups": plain, "metadata": self.metadata}
        return rest | ({"ema": {"num_updates": self._ema.num_updates}} if self._ema else {})

    def _load_rest(self, rest: Mapping[str, Any]) -> None:
        optimizer = self._trainer.optimizer
        for group, saved in zip(optimizer.param_groups, rest["param_groups"], strict=True):
            group.update(saved)
        self._trainer.load_state_dict({**rest["trainer"], "optimizer": optimizer.state_dict()})
        if self._ema:
            self._ema.num_updates = int(rest["ema"]["num_updates"])

    def _read_rest(self, path: Path) -> dict[str, Any]:
        if not (path / INDEX).is_file():
            raise CheckpointReadError(f"{path} is no complete sharded checkpoint")
        file = str(path / _REST)
        try:
            check_archive(file)
            return dict(torch.load(file, map_location="cpu", weights_only=True))
        except CheckpointReadError:
            raise
        except Exception as error:  # unpickling arbitrary bytes raises nearly anything
            raise unreadable(file, error) from error

    def _check(self, stored: Mapping[str, Any]) -> None:
        shapes = {
            name.removeprefix("model."): torch.empty(entry.size, device="meta")
            for name, entry in stored.items()
            if name.startswith("model.") and isinstance(entry, TensorStorageMetadata)
        }
        check_weights(shapes, self.model, "resume", self.save_dir)
        if self._ema and not any(name.startswith("ema.") for name in stored):
            raise ValueError(
                "the checkpoint to resume has no moving average of the weights; set "
                "train.ema.enabled=False, or begin anew with train.init_checkpoint"
            )

    def _forget_unstored_states(self, stored: Mapping[str, Any]) -> None:
        """Undoes the creation of states that the uninterrupted run had not created."""
        states = self._trainer.optimizer.state
        for name, parameter in self.model.named_parameters():
            if not any(f"optimizer.{name}.{key}" in stored for key in states.get(parameter, ())):
                states.pop(parameter, None)

    def _export(self, name: str, rest: Mapping[str, Any]) -> None:
        contents: dict[str, Any] = {"model": gather_weights(self.model.state_dict())}
        if self._ema:
            average = gather_weights(self._ema.weights)
            contents["ema"] = {"weights": average, "num_updates": self._ema.num_updates}
        contents |= {"metadata": self.metadata, "iteration": rest.get("iteration")}
        in_first_process(lambda: _write(Path(self.save_dir) / f"{name}.pth", contents))


class ShardedBestWeightsCheckpointer(BestWeightsCheckpointer):
    """Saves the weights that were evaluated as one file; all processes call :meth:`save`."""

    is_collective = True

    def __init__(
        self, model: nn.Module, save_dir: str, ema: ExponentialMovingAverage | None
    ) -> None:
        super().__init__(model, save_dir, ema)
        self.save_to_disk = True

    def save(self, name: str, **kwargs: Any) -> None:
        """Gathers the weights in the first process, which writes ``<name>.pth``.

        Args:
            name: File name without suffix.
            **kwargs: Further plain values to save.

        Raises:
            CheckpointSaveError: In all processes, if it cannot be written.
        """
        weights = self._ema.averaged_state_dict() if self._ema else self.model.state_dict()
        contents = {"model": gather_weights(weights), "metadata": self.metadata, **kwargs}
        path = Path(self.save_dir) / f"{name}.pth"
        try:
            in_first_process(lambda: _write(path, contents))
        except (OSError, RuntimeError) as error:
            raise CheckpointSaveError(self._describe_failure(path, error)) from error

    def saved_value(self, name: str, metric: str) -> tuple[float, int] | None:
        """Lets the first process read what :meth:`save_best` wrote, and returns it in all."""
        value = super().saved_value(name, metric) if comm.is_main_process() else None
        return comm.all_gather(value)[0]


def remove_unfinished_folders(folder: str | Path) -> None:
    """Removes what killed processes left unfinished in a folder of sharded checkpoints."""
    for leftover in Path(folder).glob(f".*{_UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _unreadable_shards(path: str, error: BaseException) -> BaseException:
    """Describes a failure to read shards; an interruption by the user is returned as it is."""
    causes = [cause for cause, _ in getattr(error, "failures", {}).values()] or [error]
    for cause in causes:
        if not isinstance(cause, Exception):
            return cause
    reason = str(causes[0]).split("\n")[0][:200] or type(causes[0]).__name__
    return CheckpointReadError(f"{path} has shares that cannot be read ({reason})")


def _complete(part: Path, path: Path, rest: Mapping[str, Any]) -> None:
    _write(part / _REST, {**rest, _INDEX_SUM: index_sum(part)})
    _clear(path)
    os.replace(part, path)


def _write(path: Path, contents: Mapping[str, Any]) -> None:
    def write(file: BinaryIO) -> None:
        torch.save(dict(contents), file)

    write_atomically(path, write)
