"""Writes the tables of docs/MODEL_ZOO.md, with costs counted anew; its introduction stays.

python tools/make_model_zoo.py
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from piip_d2.analysis.model_zoo import count_rows, read_rows, zoo_tables

ROOT = Path(__file__).resolve().parents[1]
START_OF_TABLES = "<!-- What follows is written by tools/make_model_zoo.py. -->\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if a configuration cannot be counted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    docs = ROOT / "docs"
    parser.add_argument("--rows", type=Path, default=docs / "paper_rows.csv")
    parser.add_argument("--document", type=Path, default=docs / "MODEL_ZOO.md")
    parser.add_argument("--num-processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    try:
        rows = read_rows(args.rows)
        head, mark, _ = args.document.read_text(encoding="utf-8").partition(START_OF_TABLES)
        if not mark:
            raise ValueError(f"{args.document} has no line {START_OF_TABLES.strip()!r}")
        tables = zoo_tables(rows, count_rows(rows, ROOT / "configs", args.num_processes))
        args.document.write_text(f"{head}{mark}\n{tables}", encoding="utf-8")
    except (ImportError, OSError, ValueError) as error:
        print(f"make_model_zoo.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
