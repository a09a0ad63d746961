"""Memory that is kept is not mapped anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys, torch
from piip_d2.engine.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = use()
for _ in range(10):
    last = use()
print(last - first)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an option of glibc")
def test_pages_are_touched_once() -> None:
    """Sixteen million floats fill 15,625 pages of 4 KiB, and are too many for the heap."""
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _PROGRAM, mode],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for mode in ("keep", "default")
    }
    assert faults["default"] > 9 * 15_625
    assert faults["keep"] < faults["default"] / 4
