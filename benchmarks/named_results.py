"""Results that a JSON file keeps by the names of their rows, so that each is made once."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

import piip_d2
from piip_d2._atomic_file import write_text_atomically
from piip_d2.ops import has_extension


class NamedRow(Protocol):
    """Something to find out."""

    @property
    def name(self) -> str:
        """Tells rows apart."""


_Row = TypeVar("_Row", bound=NamedRow)


def read_command_line(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads ``--only`` and ``--output``.

    Args:
        description: What the program does.
        argv: Arguments; None for those of this process.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="a word of the rows to make anew")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    return parser.parse_args(argv)


def fill_file(
    args: argparse.Namespace,
    rows: Iterable[_Row],
    make: Callable[[_Row], tuple[dict[str, Any], str]],
    **facts: Any,
) -> dict[str, Any]:
    """Makes the results that a file lacks, or those that ``--only`` names, and writes after each.

    Args:
        args: From :func:`read_command_line`.
        rows: All that the file is to have.
        make: Returns the result of a row, and what is printed of it.
        **facts: What else the file says of this run.

    Returns:
        All results by name.
    """
    stored = json.loads(args.output.read_text()) if args.output.exists() else {}
    results: dict[str, Any] = dict(stored.get("results", {}))
    for row in rows:
        if args.only not in row.name if args.only is not None else row.name in results:
            continue
        results[row.name], words = make(row)
        report = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "piip_d2": piip_d2.__version__,
            "compiled_operators": has_extension(),
            **facts,
            "date": datetime.date.today().isoformat(),
            "results": results,
        }
        write_text_atomically(args.output, json.dumps(report, indent=1) + "\n")
        print(f"{row.name}: {words}", flush=True)
    return results
