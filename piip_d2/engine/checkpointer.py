"""Checkpoints that survive crashes, full disks and mix-ups."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from piip_d2._atomic_file import write_atomically, write_text_atomically
from piip_d2.checkpoint.reading import (
    CheckpointReadError,
    check_has_weights,
    check_is_there,
    read_checkpoint,
    unreadable,
)
from piip_d2.engine.ema import ExponentialMovingAverage
from piip_d2.engine.weight_matching import check_loaded, check_weights, summarize_match

__all__ = [
    "AtomicCheckpointer",
    "BestWeightsCheckpointer",
    "CheckpointReadError",
    "CheckpointSaveError",
]

logger = logging.getLogger(__name__)

Purpose = Literal["initialize", "evaluate", "resume"]

# Formats that Detectron2 unpickles as they are.
_PICKLES = (".pkl", ".pyth")


class CheckpointSaveError(OSError):
    """A checkpoint that could not be written; the one before it is untouched."""


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with whole files only and checks on what is loaded.

    A ``.pth`` file is verified before anything is taken from it, and read without running code
    from it. A ``.pkl`` file, the format of Detectron2's model zoo, is unpickled as Detectron2 does
    it: that runs what the file says, so it must come from someone you trust. What is saved carries
    ``metadata``, set before the first save.

    Args:
        model: The model; a wrapper for data parallelism is looked through.
        save_dir: Folder of the checkpoints.
        **checkpointables: What else to save and load, with ``state_dict``/``load_state_dict``.
    """

    is_collective = False
    """Whether all processes have to save together."""

    def __init__(self, model: nn.Module, save_dir: str = "", **checkpointables: Any) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.metadata: dict[str, Any] = {}
        self._purpose: Purpose = "initialize"
        self._prefers_average = True

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes ``<name>.pth`` in the folder and notes it as the last checkpoint.

        Args:
            name: File name without suffix.
            **kwargs: Further plain values to save.

        Raises:
            CheckpointSaveError: If it cannot be written, for want of space for instance.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving checkpoint to %s", path)
        contents = self.contents() | kwargs

        def write(file: BinaryIO) -> None:
            torch.save(contents, file)

        try:
            write_atomically(path, write)
            self.tag_last_checkpoint(path.name)
        except (OSError, RuntimeError) as error:
            # torch.save reports a failed write as RuntimeError.
            raise CheckpointSaveError(self._describe_failure(path, error)) from error

    def contents(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        parts = {key: part.state_dict() for key, part in self.checkpointables.items()}
        return {"model": self.model.state_dict(), **parts, "metadata": self.metadata}

    def remove(self, path: str) -> None:
        """Removes a checkpoint that is no longer wanted."""
        if self.path_manager.exists(path):
            self.path_manager.rm(path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes the name of the last checkpoint, for ``--resume``."""
        write_text_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def resume(self) -> dict[str, Any] | None:
        """Loads everything from the last checkpoint, or from the newest one that can be read.

        Returns:
            What is left of the checkpoint, or None where the folder has no checkpoint.

        Raises:
            CheckpointReadError: If there are checkpoints, but none can be read.
            ValueError: If the checkpoint is of another model.
        """
        candidates = self._resume_candidates()
        for path in candidates:
            try:
                return self.load_for("resume", str(path))
            except CheckpointReadError as error:
                logger.warning("%s. Trying the checkpoint before it.", error)
        if candidates:
            raise CheckpointReadError(
                f"none of the {len(candidates)} checkpoints in {self.save_dir} can be read; start "
                "again without --resume or give the weights by train.init_checkpoint"
            )
        return None

    def load_for(
        self, purpose: Purpose, path: str, *, prefer_average: bool = True
    ) -> dict[str, Any]:
        """Loads a checkpoint as strictly as its purpose demands.

        Args:
            purpose: "initialize" and "evaluate" load the model alone: the first wants at least
                one fitting weight, the second every parameter. "resume" loads everything and
                wants all to fit.
            path: A file or an address that Detectron2's path manager knows; with
                "?matching_heuristics=True" behind it Detectron2 matches similar names.
            prefer_average: Whether to take the moving average of the weights where the file has
                one and the purpose is not to resume.

        Returns:
            What is left of the checkpoint, such as its metadata.

        Raises:
            CheckpointReadError: If the file is not there or not whole.
            ValueError: If it is of another model.
        """
        check_is_there(path, self.path_manager.get_local_path)
        self._purpose = purpose
        self._prefers_average = prefer_average and purpose != "resume"
        try:
            rest: dict[str, Any] = self.load(path, None if purpose == "resume" else [])
        finally:
            # Detectron2 leaves this behind where loading fails, and then refuses to load again.
            self._parsed_url_during_load = None
        return rest

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(_PICKLES):
            return dict(super()._load_file(filename))
        try:
            loaded = super()._load_file(filename)
        except Exception as error:  # unpickling arbitrary bytes raises nearly anything
            raise unreadable(filename, error) from error
        check_has_weights(filename, loaded)
        return dict(loaded)

    def _torch_load(self, f: str) -> dict[str, Any]:
        loaded = read_checkpoint(f)
        if "model" not in loaded and isinstance(loaded.get("state_dict"), Mapping):
            loaded = {"model": dict(loaded["state_dict"])}
        average = loaded.get("ema")
        if self._prefers_average and isinstance(average, Mapping) and "weights" in average:
            logger.info("Taking the moving average of the weights in %s.", f)
            loaded["model"] = {**loaded["model"], **average["weights"]}
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        given = list(checkpoint["model"])
        by_heuristics = checkpoint.get("matching_heuristics", False)
        if not by_heuristics:
            check_weights(checkpoint["model"], self.model, self._purpose, self.save_dir)
        total = len(self.model.state_dict())
        incompatible = super()._load_model(checkpoint)
        summarize_match(incompatible, total)
        if by_heuristics:
            # Which names Detectron2 takes for the same shows only now.
            check_loaded(incompatible.missing_keys, given, self.model, self._purpose)
        return incompatible

    def _resume_candidates(self) -> list[Path]:
        if not self.has_checkpoint():
            return []
        last = Path(self.get_checkpoint_file())
        if last.is_dir():
            raise ValueError(
                f"{last} was written by a sharded run; resume with train.fsdp.enabled=True, or "
                "begin anew with train.init_checkpoint=model_final.pth of that run"
            )
        files = list(Path(self.save_dir).glob("model_[0-9]*.pth"))
        files += Path(self.save_dir).glob("model_final.pth")
        files.sort(key=_modification_time, reverse=True)
        return [last, *(file for file in files if file != last)]

    def _describe_failure(self, path: Path, error: BaseException) -> str:
        free = shutil.disk_usage(self.save_dir).free / 2**20
        previous = self.get_checkpoint_file()
        kept = f"the checkpoint before it, {previous}, is intact" if previous else "there was none"
        reason = str(error.__context__ or error)
        return f"cannot save {path} ({reason}; {free:.0f} MiB are free there); {kept}"


class BestWeightsCheckpointer(AtomicCheckpointer):
    """Saves the weights that were evaluated, and nothing that only a resumption needs.

    Args:
        model: The model.
        save_dir: Folder of the checkpoints.
        ema: The moving average, if that is what is evaluated.
    """

    def __init__(
        self, model: nn.Module, save_dir: str, ema: ExponentialMovingAverage | None
    ) -> None:
        super().__init__(model, save_dir)
        self._ema = ema

    def save_best(self, name: str, metric: str, value: float, iteration: int) -> None:
        """Saves the weights with the value of the metric by which they are the best."""
        self.save(name, best={"metric": metric, "value": value, "iteration": iteration})

    def saved_value(self, name: str, metric: str) -> tuple[float, int] | None:
        """Returns value and iteration of a metric in a file that was saved before, if there."""
        path = Path(self.save_dir) / f"{name}.pth"
        if not path.is_file():
            return None
        try:
            best = read_checkpoint(str(path)).get("best", {})
        except CheckpointReadError as error:
            logger.warning("%s. The next evaluation replaces it.", error)
            return None
        return (best["value"], best["iteration"]) if best.get("metric") == metric else None

    def contents(self) -> dict[str, Any]:
        weights = self._ema.averaged_state_dict() if self._ema else self.model.state_dict()
        return {"model": weights, "metadata": self.metadata}

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Does nothing: one cannot resume from these."""


def _modification_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
