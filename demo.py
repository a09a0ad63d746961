"""Finds the objects in images, videos or a webcam's picture, and draws them.

python demo.py --config-file configs/quick/faster_rcnn_trees.py \\
    --checkpoint output/quick/trees/model_best.pth \\
    --input photo.jpg folder/ "more/*.png" --output drawn/
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger

from piip_d2.engine.output_paths import check_output_folder
from piip_d2.predictor import Predictor, choose_device
from piip_d2.visualization.detection_run import (
    Detection,
    detect,
    number_frames,
    read_sources,
    record,
)
from piip_d2.visualization.image_files import (
    IMAGE_SUFFIXES,
    find_images,
    names_file,
    plan_drawings,
    save_picture,
)
from piip_d2.visualization.video import (
    VIDEO_SUFFIXES,
    NoWindowError,
    VideoReader,
    VideoWriter,
    Window,
    plan_video,
)

logger = logging.getLogger("piip_d2.demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if nothing could be done."""
    args = parse_arguments(argv)
    setup_logger(name="piip_d2")
    setup_logger(name="fvcore")
    try:
        window = None if args.output else Window("predictions; q to quit")
        run = run_on_images if args.input else run_on_video
        if run(args, window) == 0:
            raise ValueError("nothing could be read: there are no results")
    except KeyboardInterrupt:
        logger.info("Stopped; what was found so far is written.")
        return 130
    except (ImportError, OSError, NoWindowError, ValueError) as error:
        # Mistakes of the caller come as one sentence; --debug shows where they were found.
        logger.error("%s", error, exc_info=args.debug)
        return 1
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; a mistake in it ends the program with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file",
        required=True,
        help="a LazyConfig, .py or .yaml, or the name of a published one, as mask_rcnn/...",
    )
    parser.add_argument("--checkpoint", default="", help="weights; else train.init_checkpoint")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, folders or quoted globs")
    source.add_argument("--video-input", help="a video file")
    source.add_argument("--webcam", action="store_true", help="the first camera")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder, or file to draw a single image or video into; without it a window opens, "
        "where OpenCV and the machine have windows",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=_score,
        default=0.5,
        help="lowest score drawn and written, from 0 to 1",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--dtype", choices=["fp32", "bf16", "fp16"], help="arithmetic")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser.parse_args(argv)


def run_on_images(args: argparse.Namespace, window: Window | None) -> int:
    """Shows or writes what is found in images; returns the number of images done."""
    images = find_images(args.input)
    if window:
        detections = detect(load_predictor(args), read_sources(images), args.confidence_threshold)
        return show(detections, window, wait_ms=0)
    check_folder(args.output, IMAGE_SUFFIXES)
    names = map(str, images)
    drawings = dict(zip(names, plan_drawings(images, args.output), strict=True))
    predictor = load_predictor(args)
    detections = detect(predictor, read_sources(images), args.confidence_threshold)

    def save(detection: Detection) -> Path:
        path = drawings[detection.source.name]
        save_picture(detection.drawing, path)
        return path

    num_done = record(
        detections, save, args.output, file_suffixes=IMAGE_SUFFIXES, predictor=predictor
    )
    if num_done < len(images):
        logger.warning("%d of %d images skipped", len(images) - num_done, len(images))
    return num_done


def run_on_video(args: argparse.Namespace, window: Window | None) -> int:
    """Shows or writes what is found in a video or a camera; returns the number of frames done."""
    with VideoReader(0 if args.webcam else args.video_input) as reader:
        frames = number_frames(reader, reader.name)
        if window:
            detections = detect(load_predictor(args), frames, args.confidence_threshold)
            return show(detections, window, wait_ms=1)
        check_folder(args.output, VIDEO_SUFFIXES)
        source = None if args.webcam else Path(args.video_input)
        path = plan_video(reader.name, args.output, source)
        predictor = load_predictor(args)
        detections = detect(predictor, frames, args.confidence_threshold)
        with VideoWriter(path, reader.fps) as writer:

            def save(detection: Detection) -> Path:
                writer.write(detection.drawing)
                return writer.path

            return record(
                detections, save, args.output, file_suffixes=VIDEO_SUFFIXES, predictor=predictor
            )


def load_predictor(args: argparse.Namespace) -> Predictor:
    """Builds the model, which takes long: what is wrong with paths is said before."""
    return Predictor(
        args.config_file,
        args.checkpoint,
        dtype=args.dtype,
        device=choose_device(args.device, "--device"),
        overrides=args.opts,
        score_threshold=args.confidence_threshold,
    )


def check_folder(output: Path, file_suffixes: frozenset[str]) -> None:
    """Refuses an output in a folder that can neither be used nor made."""
    check_output_folder(output.parent if names_file(output, file_suffixes) else output)


def show(detections: Iterable[Detection], window: Window, wait_ms: int) -> int:
    """Shows drawings one by one until the window is closed; returns how many it showed."""
    num_shown = 0
    for detection in detections:
        num_shown += 1
        if not window.show(detection.drawing, wait_ms):
            break
    return num_shown


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    # False for "nan" too.
    if not 0.0 <= score <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return score


if __name__ == "__main__":
    sys.exit(main())
