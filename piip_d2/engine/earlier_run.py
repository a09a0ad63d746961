"""Making room for a run in a folder that an earlier one has used."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_CHECKPOINTS = (
    "last_checkpoint",
    "model_best.pth",
    "model_final.pth",
    "model_final",
    "model_[0-9]*",
)
_RECORDS = ("config.yaml", "results.json", "metrics.json", "metrics_[0-9]*.json", "events.out.*")
# These alone make no earlier run: an evaluation may have been the first thing in the folder.
_COMPANIONS = ("inference", "evaluation", "contact_sheet*", "curves.png")
_LOGS = ("log.txt", "log.txt.rank[0-9]*")

_NAME = "earlier_run"
_UNFINISHED = "earlier_run.unfinished"


def put_earlier_run_aside(
    folder: str | Path, log_starts: Mapping[str, int] | None = None
) -> Path | None:
    """Moves all that an earlier run wrote into a sub-folder of its own.

    Otherwise ``--resume`` would take its checkpoints for those of the new run, and the files of
    the two would lie together. What else is in the folder stays.

    Args:
        folder: The output folder.
        log_starts: By the name of a log, where in it the messages of the new run begin, in bytes.
            They stay in the folder.

    Returns:
        The sub-folder, or None where there was nothing to move.

    Raises:
        ValueError: If something cannot be moved, all is in its old place then; or if another start
            is moving it.
    """
    folder = Path(folder)
    unfinished = folder / _UNFINISHED
    try:
        # What a killed process had moved would be replaced by files of the same names.
        undo_interrupted_move(folder)
        if not _find(folder, (*_CHECKPOINTS, *_RECORDS)):
            return None
        unfinished.mkdir()
    except FileExistsError as error:
        raise ValueError(
            f"the earlier run in {folder} is just being moved aside by another training; choose "
            "another train.output_dir"
        ) from error
    except OSError as error:
        raise _cannot_move(folder, error) from error
    try:
        for file in _find(folder, (*_CHECKPOINTS, *_RECORDS, *_COMPANIONS)):
            file.rename(unfinished / file.name)
        aside = _free_name(folder)
        unfinished.rename(aside)
    except OSError as error:
        undo_interrupted_move(folder)
        raise _cannot_move(folder, error) from error
    _move_logs(folder, aside, log_starts or {})
    logger.warning(
        "%s held an earlier run, which is now in %s: this one starts anew.%s",
        folder,
        aside,
        _way_back(aside),
    )
    return aside


def undo_interrupted_move(folder: str | Path) -> None:
    """Moves back what a killed process had begun to put aside, if there is such a thing.

    Args:
        folder: The output folder.
    """
    folder = Path(folder)
    unfinished = folder / _UNFINISHED
    if not unfinished.is_dir():
        return
    for file in sorted(unfinished.iterdir()):
        if not (folder / file.name).exists():
            file.rename(folder / file.name)
    if any(unfinished.iterdir()):
        # Someone has since written files of these names, which stay as well.
        unfinished.rename(_free_name(folder))
    else:
        unfinished.rmdir()


def _find(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [file for pattern in patterns for file in sorted(folder.glob(pattern))]


def _free_name(folder: Path) -> Path:
    aside = folder / _NAME
    number = 1
    while aside.exists():
        number += 1
        aside = folder / f"{_NAME}_{number}"
    return aside


def _cannot_move(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"the earlier run in {folder} cannot be moved aside ({error.strerror}: {error.filename}); "
        "choose another train.output_dir, or add --resume to go on with it"
    )


def _move_logs(folder: Path, aside: Path, starts: Mapping[str, int]) -> None:
    for log in _find(folder, _LOGS):
        try:
            _move_log(log, aside, starts.get(log.name))
        except OSError as error:
            # A log is no reason not to train.
            logger.warning(
                "%s could not be parted between the earlier run and this one (%s); nothing of it "
                "is lost, but lines of the other run may stand in it or in %s.",
                log,
                error.strerror,
                aside / log.name,
            )


def _move_log(log: Path, aside: Path, start: int | None) -> None:
    """Moves a log up to a place in it, or all of it; what is behind that stays."""
    if start == 0:
        return
    moved = log.rename(aside / log.name)
    if start is None:
        return
    rest = moved.read_bytes()[start:]
    # Its process may have begun a new one already.
    with open(log, "ab") as file:
        file.write(rest)
    os.truncate(moved, start)


def _way_back(aside: Path) -> str:
    config = aside / "config.yaml"
    if not (config.is_file() and (aside / "last_checkpoint").is_file()):
        return ""
    return (
        f" To go on with that one: train_net.py --resume --config-file {config} "
        f"train.output_dir={aside}"
    )
