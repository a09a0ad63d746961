"""Writes a backbone or a DINO as ONNX or torch.export program, and compares it with the model.

python tools/export_model.py --config-file configs/quick/dino_scenes.py \\
    --checkpoint output/quick/scenes_dino/model_final.pth \\
    --part detector --image-size 256 256 --output dino.onnx
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger

from piip_d2.engine.output_paths import check_output_file
from piip_d2.export import (
    check_path,
    compare,
    export_backbone,
    export_detector,
    measure_seconds,
)
from piip_d2.predictor import Predictor

logger = logging.getLogger("piip_d2.export_model")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if nothing could be exported or the file is not what the model is."""
    args = parse_arguments(argv)
    setup_logger(name="piip_d2")
    try:
        check_output_file(args.output)
        check_path(args.output)
        if args.part == "detector" and args.dynamic:
            raise ValueError(
                "--dynamic is for --part backbone: an exported detector has a canvas of fixed size "
                "that takes smaller images too"
            )
        predictor = Predictor(args.config_file, args.checkpoint, device="cpu", overrides=args.opts)
        logger.info("Exporting takes a minute or more, the longer the more blocks there are.")
        options = {"opset": args.opset, "batch_size": args.batch_size}
        size = (*args.image_size,)
        if args.part == "backbone":
            exported = export_backbone(
                predictor.model, args.output, size, dynamic=args.dynamic, **options
            )
        else:
            names = predictor.class_names
            exported = export_detector(
                predictor.model, args.output, size, class_names=names, **options
            )
        print(f"Wrote {exported.path}")
        if not args.no_check:
            differences = compare(exported)
            print(*differences, sep="\n")
            if not all(difference.is_close for difference in differences):
                raise ValueError(
                    f"{exported.path} is there, but it computes something else than the model: see "
                    "the differences above, and docs/EXPORT.md for how large they may be"
                )
        if args.time:
            in_file, in_eager = measure_seconds(exported, args.time)
            print(f"Median of {args.time} runs: file {in_file:.3f} s, PyTorch {in_eager:.3f} s")
    except (ImportError, OSError, ValueError) as error:
        print(f"export_model.py: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; a mistake in it ends the program with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="the model's configuration")
    parser.add_argument(
        "--checkpoint", default="", help="its weights; by default the config's init_checkpoint"
    )
    parser.add_argument("--part", choices=("backbone", "detector"), default="backbone")
    parser.add_argument(
        "--image-size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dynamic", action="store_true", help="a backbone for all sizes")
    parser.add_argument("--opset", type=int, default=18, help="version of ONNX's operators")
    parser.add_argument("--output", type=Path, required=True, help="file to write, .onnx or .pt2")
    parser.add_argument("--no-check", action="store_true", help="leave out the comparison")
    parser.add_argument("--time", type=int, default=0, metavar="RUNS", help="measure the speed")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
