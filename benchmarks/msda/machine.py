"""What a measurement depends on besides the code: the machine, and who else uses it."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import torch

import piip_d2
from benchmarks.msda.implementations import peer_versions
from piip_d2.ops import has_extension

# CPU time of all processes in nanoseconds, by cgroups of version 1, or microseconds, version 2.
_CGROUP_V1 = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.stat")
_PROC_STAT = Path("/proc/stat")
# Of the line "cpu" of /proc/stat: user, nice, system, irq, softirq and steal, but not idle, iowait.
_BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)
_STEAL_COLUMN = 7


class MachineLoad:
    """CPU time that all processes of the machine have taken, as finely as the system tells.

    Time that a hypervisor gave to other machines counts as taken.

    Attributes:
        source: File that tells it; None where there is none, and nothing is known of others.
    """

    def __init__(self) -> None:
        self.source = next(
            (path for path in (_CGROUP_V1, _CGROUP_V2, _PROC_STAT) if _is_readable(path)), None
        )

    def seconds(self) -> float:
        """CPU seconds since some time in the past."""
        if self.source == _CGROUP_V1:
            return int(_CGROUP_V1.read_text()) * 1e-9 + _proc_stat((_STEAL_COLUMN,))
        if self.source == _CGROUP_V2:
            microseconds = _CGROUP_V2.read_text().split("usage_usec", 1)[1].split()[0]
            return int(microseconds) * 1e-6 + _proc_stat((_STEAL_COLUMN,))
        return _proc_stat(_BUSY_COLUMNS)


def describe(device: torch.device) -> dict[str, Any]:
    """Returns what times depend on, for the report."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if is_gpu else None,
        "python": platform.python_version(),
        "piip_d2": piip_d2.__version__,
        "compiled_operators": has_extension(device.type),
        "peers": peer_versions(),
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _is_readable(path: Path) -> bool:
    # The root of version 2 has the file, but in some systems without the line.
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    return path != _CGROUP_V2 or "usage_usec" in path.read_text()


def _proc_stat(columns: tuple[int, ...]) -> float:
    """Sum of columns of the line for all CPUs, in seconds; 0 where the file is missing."""
    if not _PROC_STAT.is_file():
        return 0.0
    fields = _PROC_STAT.read_text().split("\n", 1)[0].split()[1:]
    ticks = sum(int(fields[column]) for column in columns if column < len(fields))
    return ticks / os.sysconf("SC_CLK_TCK")
