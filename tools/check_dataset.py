"""Check a data set of your own, and draw some of its images with their annotations.

python tools/check_dataset.py my/train.json --images my/images
python tools/check_dataset.py my/train.json --val my/val.json --images my/images \\
    --output contact_sheet.png --config-file configs/mask_rcnn/piip_tsb_1120_896_448_1x.py
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from piip_d2.analysis.configs import build_without_numbers
from piip_d2.data.dataset_report import check_split, describe_splits
from piip_d2.data.object_sizes import PyramidGrid
from piip_d2.engine import load_config
from piip_d2.engine.data_report import pyramid_grid
from piip_d2.engine.output_paths import check_output_file
from piip_d2.visualization.dataset_sheet import draw_dataset_sheet


def main(argv: list[str] | None = None) -> int:
    """Run the tool and return its exit status: 1 if the data cannot be used at all."""
    arguments = _parser().parse_args(argv)
    # All of it is in the report.
    logging.disable(logging.WARNING)
    images = arguments.images or arguments.train.parent
    files = {"train": (arguments.train, images)}
    if arguments.val:
        files["val"] = (
            arguments.val,
            arguments.val_images or arguments.images or arguments.val.parent,
        )
    try:
        if arguments.output:
            check_output_file(arguments.output)
        splits = {name: check_split(name, *paths) for name, paths in files.items()}
        print(describe_splits(splits, _grid(arguments.config_file)))
        if arguments.output:
            sheet = draw_dataset_sheet(splits, num_images=arguments.num_images)
            sheet.savefig(arguments.output)
            print(f"\nDrew {arguments.output}.")
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, metavar="JSON", help="COCO-format JSON to check")
    parser.add_argument("--images", type=Path, help="folder of its images (default: of the JSON)")
    parser.add_argument("--val", type=Path, metavar="JSON", help="that of the validation split")
    parser.add_argument(
        "--val-images", type=Path, help="folder of its images (default: that of --images)"
    )
    parser.add_argument("--output", type=Path, metavar="PNG", help="contact sheet to draw")
    parser.add_argument(
        "--num-images", type=int, default=12, help="images to draw of each split (default: 12)"
    )
    parser.add_argument(
        "--config-file",
        help="config, or name of a published one, with whose pyramid to compare the sizes of the "
        "objects",
    )
    return parser


def _grid(config_file: str | None) -> PyramidGrid | None:
    if not config_file:
        return None
    return pyramid_grid(load_config(config_file, []), build_without_numbers(config_file))


if __name__ == "__main__":
    sys.exit(main())
