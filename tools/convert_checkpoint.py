"""Convert a checkpoint of PIIP, mmdetection, detrex or DINO's authors, or convert one back.

python tools/convert_checkpoint.py official.pth \\
    --config configs/mask_rcnn/piip_tsb_1120_896_448_1x.py --output piip_tsb.pth
python tools/convert_checkpoint.py piip_tsb.pth \\
    --config configs/mask_rcnn/piip_tsb_1120_896_448_1x.py --output official.pth --to-official
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger

from piip_d2.checkpoint.detectors.sources import SOURCES
from piip_d2.engine.conversion import ConversionError, convert_checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if nothing could be converted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="file, address or folder of DeepSpeed")
    parser.add_argument(
        "--config", "--config-file", required=True, dest="config", help="config of the detector"
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--unsafe", action="store_true", help="run what the file says; for files you trust"
    )
    parser.add_argument(
        "--to-official", action="store_true", help="from this package's names to those of PIIP"
    )
    parser.add_argument(
        "--names", choices=sorted(SOURCES), help="whose names the weights have (told by them)"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="changes to the config")
    args = parser.parse_intermixed_args(argv)
    setup_logger(name="piip_d2")
    try:
        report = convert_checkpoint(
            args.source,
            args.config,
            args.output,
            overrides=args.opts,
            unsafe=args.unsafe,
            to_official=args.to_official,
            names=args.names,
        )
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, ConversionError):
            print(error.report, file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    print(f"Wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
