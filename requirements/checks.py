"""What can be in the way of an installation, each put so that it names the way out."""

# No "from __future__ import annotations": see install.py.

import os
import re
import shutil
from pathlib import Path

PYTHON_VERSIONS = ((3, 11), (3, 12), (3, 13))

_RUN_AGAIN = "Then run make again: it goes on where it stopped."

# What pip says, and what to do about it; the first that matches counts.
_PIP_FAILURES = (
    (
        r"DO NOT MATCH THE HASHES",
        "a downloaded file is not the one that was pinned, and was not installed. A stale cache or "
        "a proxy may be the cause: try 'pip cache purge' or another network, and run make again. "
        "If it stays so, do not override it, but report it.",
    ),
    (
        r"No space left on device|Errno 28",
        "the disk is full. Free some space, or clone the repository on a larger disk, and run make "
        "again.",
    ),
    (
        r"NewConnectionError|NameResolutionError|[Ff]ailed to establish a new connection|"
        r"Connection refused|Network is unreachable|timed out|ReadTimeout|ProxyError|SSLError|"
        r"connection broken|ConnectionError|IncompleteRead|Name or service not known",
        "the packages could not be downloaded. Check the network, or tell pip about the proxy or "
        "the mirror to use (pip config, HTTPS_PROXY). " + _RUN_AGAIN,
    ),
    (
        r"No matching distribution|Could not find a version",
        "a pinned package is not to be had for this machine. The pins are for Linux x86-64 with "
        "glibc 2.28 or newer; elsewhere, install into an environment of your own, as the section "
        "on installation in README.md says.",
    ),
    (
        r"command '\S*(gcc|g\+\+|cc|c\+\+|clang\S*|nvcc)' failed|C\+\+ compiler|"
        r"'(g\+\+|c\+\+|gcc|cc)': No such file|Error compiling objects|cannot be compiled",
        "a compiler is missing or failed. Install one (Debian, Ubuntu: apt-get install g++). Where "
        "neither FORCE_CUDA nor PIIP_D2_BUILD is set, the package does without it and works on "
        "PyTorch alone. " + _RUN_AGAIN,
    ),
)


class InstallError(Exception):
    """A reason to stop; the message names the way out."""


def check_platform(version: "tuple[int, ...]", system: str, machine: str) -> None:
    """Refuses a Python or a machine that there are no pinned files for.

    Args:
        version: Version of the Python that makes the environment, at least (major, minor).
        system: As from ``platform.system()``.
        machine: As from ``platform.machine()``.

    Raises:
        InstallError: If it is too old, too new, or not Linux on x86-64.
    """
    known = " or ".join(f"{major}.{minor}" for major, minor in PYTHON_VERSIONS)
    own = (
        "The package itself needs only Python 3.10 and torch 2.10: how to install it into an "
        "environment of your own stands in README.md."
    )
    if tuple(version[:2]) not in PYTHON_VERSIONS:
        age = "old" if tuple(version[:2]) < PYTHON_VERSIONS[0] else "new"
        raise InstallError(
            f"Python {version[0]}.{version[1]} is too {age}: the pinned packages are for {known}. "
            "Install one of these (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) and "
            f"name it: make PYTHON=python3.11. {own}"
        )
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise InstallError(
            f"the pinned packages are for Linux on x86-64, not {system} on {machine}. {own}"
        )


def check_disk(free: float, needed: float, folder: Path) -> None:
    """Refuses to start what the disk has no room for.

    Args:
        free: Free space in gigabytes.
        needed: Space that the pending steps need at their peak, in gigabytes.
        folder: Where it is needed; for the message.

    Raises:
        InstallError: If ``free`` is less than ``needed``.
    """
    if free < needed:
        raise InstallError(
            f"the installation needs about {needed:.1f} GB in {folder}, and {free:.1f} GB are "
            "free. Free some space, or name a folder on a larger disk: make VENV=/larger/disk/venv"
        )


def compiler_advice(sources: Path) -> str:
    """Says what follows if there is C++ below the folder ``sources``, but no compiler."""
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler or not any(sources.rglob("*.cpp")):
        return ""
    return (
        "no C++ compiler was found, so the operators are not compiled and the slower PyTorch "
        "reference does their work. To have them: apt-get install g++ (Debian, Ubuntu), then "
        "make clean, and make again."
    )


def explain(output: str, log: Path) -> str:
    """Turns what pip printed before it failed into a sentence that names the way out."""
    for pattern, advice in _PIP_FAILURES:
        if re.search(pattern, output):
            return f"{advice} (All that pip said: {log})"
    last_lines = "\n".join(output.strip().splitlines()[-15:])
    return f"pip failed for a reason not foreseen here. All it said: {log}\nThe end:\n{last_lines}"
