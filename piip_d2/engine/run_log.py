"""The file ``log.txt`` in a run's folder, which has all of its messages."""

from __future__ import annotations

import logging
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

from detectron2.utils.logger import setup_logger

# Its messages go to log.txt alone.
FILE_LOGGER = "piip_d2.file"

_LOGGERS = ("fvcore", "detectron2", "piip_d2")


class RunLog(WatchedFileHandler):
    """Appends messages to a file, and to a new one once that or its folder has been moved.

    Args:
        path: The file.

    Attributes:
        path: The file.
        start: Where in the file, in bytes, the messages of this start begin.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.path = path
        self.start = path.stat().st_size
        # As Detectron2 writes them.
        self.setFormatter(
            logging.Formatter(
                "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S"
            )
        )

    def _open(self) -> TextIOWrapper:
        # A training moves the folder of an evaluation, which shall not die of it.
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def open_run_log(folder: Path, rank: int = 0) -> None:
    """Lets messages go to the screen in the first process, and to a file in each.

    A log that is open from another run of this process is closed.

    Args:
        folder: Folder of the run.
        rank: Number of the process; behind the first one it is part of the file's name.
    """
    close_run_log()
    for name in _LOGGERS:
        setup_logger(distributed_rank=rank, name=name)
    setup_logger(distributed_rank=rank, name=FILE_LOGGER, configure_stdout=False)
    log = RunLog(folder / (f"log.txt.rank{rank}" if rank else "log.txt"))
    for name in (*_LOGGERS, FILE_LOGGER):
        logging.getLogger(name).addHandler(log)


def find_run_log() -> RunLog | None:
    """Returns the log that is open in this process, if there is one."""
    handlers = logging.getLogger(FILE_LOGGER).handlers
    return next((handler for handler in handlers if isinstance(handler, RunLog)), None)


def close_run_log() -> None:
    """Closes the log that is open in this process, if there is one."""
    log = find_run_log()
    if log is None:
        return
    for name in (*_LOGGERS, FILE_LOGGER):
        logging.getLogger(name).removeHandler(log)
    log.close()
