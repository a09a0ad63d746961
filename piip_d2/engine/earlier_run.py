"""Making room for a run in a folder that an earlier one has used."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

# The first one is what --resume and the tools look at first.
_PATTERNS = ("last_checkpoint", "model_best.pth", "model_final.pth", "model_final", "model_[0-9]*")


def put_earlier_run_aside(folder: str | Path) -> Path | None:
    """Moves the checkpoints and the results of an earlier run into a sub-folder.

    Otherwise ``--resume`` would take them for those of the new run until it has saved its own.

    Args:
        folder: The output folder.

    Returns:
        The sub-folder, or None where there was nothing to move.
    """
    folder = Path(folder)
    files = [file for pattern in _PATTERNS for file in sorted(folder.glob(pattern))]
    if not files:
        return None
    results = folder / "results.json"
    aside = folder / "earlier_run"
    number = 1
    while aside.exists():
        number += 1
        aside = folder / f"earlier_run_{number}"
    aside.mkdir()
    for file in [*files, *([results] if results.exists() else [])]:
        file.rename(aside / file.name)
    logger.warning(
        "%s holds an earlier run, and this one starts anew: the checkpoints of the earlier one are "
        "now in %s. To go on with it, stop this run, move them back and add --resume.",
        folder,
        aside,
    )
    return aside
