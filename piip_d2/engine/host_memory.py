"""Memory of this process on the host: how much it is, and how to keep what was once used."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

# Numbers of options in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP_ALL = 2**31 - 1
_GROWTH = 64 * 2**20


def keep_freed_memory() -> bool:
    """Makes the C library hold on to freed memory instead of returning it to the system.

    Training frees and asks for the same large tensors in every iteration. By default each of them
    is mapped afresh, and its pages are cleared one by one at the first touch; on virtual machines
    that costs more than the arithmetic. The price is that the process stays at its peak size.

    Returns:
        Whether this C library knows the options (glibc does).
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP_ALL), (_TOP_PAD, _GROWTH))
    return all(set_option(number, value) == 1 for number, value in options)


def resident_bytes(*, peak: bool) -> int:
    """Memory that this process has in RAM.

    Args:
        peak: Most that it had, since :func:`reset_resident_peak` if that was called, instead of
            what it has now.

    Returns:
        Bytes; 0 where the system does not say.
    """
    field = "VmHWM:" if peak else "VmRSS:"
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def reset_resident_peak() -> None:
    """Counts the peak of :func:`resident_bytes` anew from here on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
