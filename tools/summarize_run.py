"""Prints the AP of a run, and draws predictions beside ground truth and the run's curves.

python tools/summarize_run.py --run-dir output/quick/trees
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger

from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import load_config
from piip_d2.visualization.run_summary import summarize_run


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if the run has nothing to show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, required=True, help="output folder of the run")
    parser.add_argument("--config-file", help="its config; by default the config.yaml in there")
    parser.add_argument("--num-images", type=int, default=8, help="images on the contact sheet")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score drawn")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    args = parser.parse_args(argv)
    setup_logger(name="piip_d2")
    try:
        cfg = load_config(args.config_file or str(args.run_dir / "config.yaml"), args.opts)
        apply_data_section(cfg)
        summary = summarize_run(
            cfg,
            args.run_dir,
            num_images=args.num_images,
            threshold=args.threshold,
            device=args.device,
        )
    except (ImportError, OSError, ValueError) as error:
        print(f"summarize_run.py: {error}", file=sys.stderr)
        return 1
    print(f"\nAP of {summary.checkpoint} in percent:\n\n{summary.table}\n")
    print(f"Predictions beside ground truth: {summary.contact_sheet}")
    print(f"Licence and source of its images: {summary.sources}")
    if summary.curves:
        print(f"Losses and AP over training: {summary.curves}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
