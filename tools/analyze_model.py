"""Prints parameters and FLOPs of a configuration's model, part by part, in labelled conventions.

python tools/analyze_model.py --config-file configs/mask_rcnn/piip_tsb_1120_896_448_1x.py

A multiply-add counts as one operation. docs/COSTS.md says what each convention counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from piip_d2.analysis.configs import ALL, build_without_numbers, count_conventions
from piip_d2.analysis.count import CONVENTIONS
from piip_d2.analysis.formats import FORMATS, format_costs
from piip_d2.analysis.released_script import FUSED_MLP_MODES
from piip_d2.engine.output_paths import check_output_file


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if there is nothing to count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="the model's configuration")
    parser.add_argument(
        "--resolutions", type=int, nargs="+", help="image sides of the branches, largest first"
    )
    parser.add_argument("--convention", choices=(*CONVENTIONS, ALL), default=ALL)
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help='of the image, for "actual"; by default a square of the largest resolution',
    )
    parser.add_argument(
        "--fused-mlp",
        choices=FUSED_MLP_MODES,
        default=FUSED_MLP_MODES[0],
        help='whether "released_script" sees MLPs with tanh GELU',
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text")
    parser.add_argument("--output", type=Path, help="file to write to instead")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    args = parser.parse_args(argv)
    try:
        if args.output:
            check_output_file(args.output)
        model = build_without_numbers(args.config_file, args.opts)
        reports = count_conventions(
            model,
            args.convention,
            resolutions=args.resolutions,
            image_size=None if args.image_size is None else (*args.image_size,),
            fused_mlp=args.fused_mlp,
        )
        document = format_costs(reports, args.format)
        if args.output:
            args.output.write_text(document, encoding="utf-8")
    except (ImportError, OSError, ValueError) as error:
        print(f"analyze_model.py: {error}", file=sys.stderr)
        return 1
    if not args.output:
        print(document, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
