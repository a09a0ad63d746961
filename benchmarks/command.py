"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import Results, describe_run


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every benchmark can be told."""
    add = parser.add_argument
    add("--output", type=Path, metavar="FILE", help="JSON file whose rows of this kind to replace")
    add("--resume", action="store_true", help="keep the rows that FILE has of this kind")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="on a CPU")
    add("--tiny", action="store_true", help="sizes that say nothing, to try the program")


def device_of(args: argparse.Namespace) -> torch.device:
    """The device that a command line names."""
    return torch.device(args.device)


def command_line(module: str, argv: Sequence[str] | None) -> str:
    """What a reader types to repeat a run.

    Args:
        module: The benchmark's module.
        argv: Arguments; None for those of this process.

    Returns:
        The command.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return " ".join(["python", "-m", module, *(x for x in arguments if x != "--resume")])


def start(args: argparse.Namespace, suite: str, command: str) -> tuple[Results, dict[str, Any]]:
    """Opens the results for the rows of a suite.

    Args:
        args: With the common options.
        suite: Name of the suite.
        command: As from :func:`command_line`.

    Returns:
        The results, and what its rows say of this run.
    """
    torch.set_num_threads(args.threads)
    run = describe_run(device_of(args), command)
    results = Results(args.output)
    results.start(suite, run, resume=args.resume)
    return results, run
