"""Where metrics go: the terminal, ``metrics.json`` and TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from piip_d2 import _optional
from piip_d2._atomic_file import write_text_atomically

logger = logging.getLogger(__name__)


class ResumableJSONWriter(JSONWriter):
    """Detectron2's writer, which knows what the file has from the run that is resumed.

    Args:
        json_file: The file; one JSON object a line.
        window_size: Iterations over which the median of noisy metrics is taken.
        first_iteration: Lines from this iteration on are dropped: a killed run wrote them
            behind its last checkpoint, and they will be written again. At 0 a file that is
            there is of another run and is put aside.
    """

    def __init__(self, json_file: str | Path, window_size: int = 20, first_iteration: int = 0):
        path = Path(json_file)
        last_written = -1
        if first_iteration == 0:
            _put_aside(path)
        else:
            last_written = _drop_lines_from(path, first_iteration)
        super().__init__(str(path), window_size)
        self._last_write = last_written


class MetricsHook(PeriodicWriter):
    """Detectron2's hook for writers, which a full disk does not bring down.

    Args:
        writers: Where the metrics go.
        period: Iterations from one writing to the next.
    """

    def __init__(self, writers: list[EventWriter], period: int) -> None:
        super().__init__([_TolerantWriter(writer) for writer in writers], period)


class _TolerantWriter(EventWriter):
    """A writer whose failures are logged, the first one of them, and lead to nothing else."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self._has_failed = False

    def write(self, **kwargs: Any) -> None:
        self._attempt(self._writer.write)

    def close(self) -> None:
        self._attempt(self._writer.close)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            if not self._has_failed:
                name = type(self._writer).__name__
                logger.error("%s cannot write metrics (%s). Training goes on.", name, error)
            self._has_failed = True


def build_writers(
    output_dir: str | Path,
    max_iter: int,
    *,
    window_size: int = 20,
    first_iteration: int = 0,
    tensorboard: bool = True,
) -> list[EventWriter]:
    """Builds all writers of a run.

    Args:
        output_dir: Folder of the run.
        max_iter: Number of iterations, for the estimated time of arrival.
        window_size: Iterations over which ``metrics.json`` takes medians.
        first_iteration: The first iteration that is still to be written.
        tensorboard: Whether to write TensorBoard's event files, if the package is there.

    Returns:
        The writers.
    """
    writers = [
        CommonMetricPrinter(max_iter),
        ResumableJSONWriter(Path(output_dir) / "metrics.json", window_size, first_iteration),
    ]
    if tensorboard and _optional.available("tensorboard"):
        writer = TensorboardXWriter(
            str(output_dir), window_size, purge_step=first_iteration or None
        )
        writers.append(writer)
    elif tensorboard:
        logger.info("The package tensorboard is not installed: metrics.json has the metrics.")
    return writers


def _put_aside(path: Path) -> None:
    if not path.exists():
        return
    number = 1
    while (aside := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    logger.info("%s was of an earlier run and is now %s.", path, aside)


def _drop_lines_from(path: Path, first_iteration: int) -> int:
    """Drops lines from an iteration on, and returns the last iteration that stays, or -1."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [(line, entry) for line in lines if (entry := _parse(line)) is not None]
    kept = [(line, entry) for line, entry in kept if entry["iteration"] < first_iteration]
    if len(kept) < len(lines):
        write_text_atomically(path, "".join(f"{line}\n" for line, _ in kept))
    return max((int(entry["iteration"]) for _, entry in kept), default=-1)


def _parse(line: str) -> dict[str, Any] | None:
    # The last line may be cut off where the run was killed.
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and "iteration" in entry else None
