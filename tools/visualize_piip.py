"""Draws what happens inside a PIIP detector, how a training went, and where it fails.

python tools/visualize_piip.py report --config-file configs/quick/mask_rcnn_scenes.py \\
    --checkpoint output/quick/scenes/model_final.pth --image photo.jpg --output report.html

The pictures are explained in docs/VISUALIZATION.md.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.utils.logger import setup_logger
from omegaconf import OmegaConf

from piip_d2.data.image_reading import read_image
from piip_d2.engine.output_paths import check_output_file
from piip_d2.predictor import Predictor
from piip_d2.visualization import inside
from piip_d2.visualization.error_sheet import draw_error_sheet, error_pictures
from piip_d2.visualization.errors import ErrorReport, find_errors
from piip_d2.visualization.figures import Picture, as_picture
from piip_d2.visualization.html_report import ReportSection
from piip_d2.visualization.inside.report import write_inside_report
from piip_d2.visualization.published_points import paper_points
from piip_d2.visualization.run_points import run_points
from piip_d2.visualization.tradeoff import draw_tradeoff
from piip_d2.visualization.training import draw_training


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if there is nothing to draw."""
    args = _parser().parse_args(argv)
    setup_logger(name="piip_d2")
    setup_logger(name="fvcore")
    try:
        _check_files(args)
        written = args.draw(args)
    except (ImportError, OSError, ValueError) as error:
        if args.debug:
            raise
        print(f"visualize_piip.py: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(f"Drawn: {path}")
    return 0


def draw_pyramid(args: argparse.Namespace) -> list[Path]:
    """(a) Each branch's input with token grid, windows and share of the costs."""
    return _save(args, inside.pyramid_picture(_observe(args, _predictor(args), [])))


def draw_attention(args: argparse.Namespace) -> list[Path]:
    """(b) What the cells at a point read in other branches, per interaction and head."""
    subject = _observe(args, _predictor(args), args.interactions)
    written = _save(args, inside.attention_picture(subject, args.point))
    if args.by_head:
        for name, picture in inside.head_pictures(subject, args.point).items():
            path = args.output.with_name(f"{args.output.stem}_{name}{args.output.suffix}")
            written += _save(args, picture, path)
    return written


def draw_features(args: argparse.Namespace) -> list[Path]:
    """(c) Features before and after interactions, and behind the merge."""
    return _save(args, inside.features_picture(_observe(args, _predictor(args), args.interactions)))


def draw_merge(args: argparse.Namespace) -> list[Path]:
    """(d) Merge weights and interaction scales by depth."""
    predictor = _predictor(args)
    about = f"Weights: {_weights_name(args, predictor)}."
    return _save(args, inside.merge_picture(predictor.model, about))


def draw_curves(args: argparse.Namespace) -> list[Path]:
    """(e) Losses, AP and learning rates of runs."""
    return _save(args, as_picture(draw_training(args.runs), "Training", ""))


def draw_pareto(args: argparse.Namespace) -> list[Path]:
    """(f) AP against FLOPs and latency, beside the paper's points."""
    points = [
        point
        for run in args.runs
        for point in run_points(
            run, metric=args.metric, latency_images=args.latency_images, device=args.device
        )
    ]
    if args.paper_tables:
        points += paper_points(args.paper_rows, metric=args.metric, tables=args.paper_tables)
    return _save(args, as_picture(draw_tradeoff(points, metric=args.metric), "Trade-off", ""))


def draw_errors(args: argparse.Namespace) -> list[Path]:
    """(g) Predictions beside ground truth with mistakes marked, sorted by loss.

    The losses of all images go into a file beside the picture, named as it with _errors.json.
    """
    report = _find_errors(_predictor(args, args.threshold), args)
    written = _save(args, as_picture(draw_error_sheet(report), "Errors", ""))
    notes = args.output.with_name(f"{args.output.stem}_errors.json")
    notes.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    return [*written, notes]


def write_report(args: argparse.Namespace) -> list[Path]:
    """All of it on one HTML page, with attention to click through."""
    predictor = _predictor(args, args.threshold if args.num_images else None)
    subject = _observe(args, predictor, args.interactions)
    more = []
    if args.run_dir:
        curves = as_picture(draw_training([args.run_dir]), "Training", f"From {args.run_dir.name}.")
        more.append(ReportSection("The training", pictures=[curves]))
    if args.num_images:
        pictures = error_pictures(_find_errors(predictor, args))
        more.append(ReportSection("The hardest images", "Sorted by their loss.", pictures))
    facts = {
        "Config": str(args.config_file),
        "Checkpoint": _weights_name(args, predictor),
        "File": str(args.image),
    }
    write_inside_report(subject, args.output, point=args.point, facts=facts, more=more)
    return [args.output]


def _check_files(args: argparse.Namespace) -> None:
    """Refuses files that cannot be used, before anything that takes long."""
    if args.output.suffix.lower() != args.suffix:
        raise ValueError(
            f"--output must end in {args.suffix}, as that is what is written; got {args.output}"
        )
    check_output_file(args.output)
    if "image" in args:
        read_image(args.image)


def _predictor(args: argparse.Namespace, threshold: float | None = None) -> Predictor:
    options = {"device": args.device, "overrides": args.opts, "score_threshold": threshold}
    return Predictor(args.config_file, args.checkpoint, **options)


def _observe(
    args: argparse.Namespace, predictor: Predictor, interactions: Sequence[int] | None
) -> inside.Subject:
    about = f"{Path(args.image).name}; weights: {_weights_name(args, predictor)}"
    return inside.observe(predictor, args.image, interactions=interactions, about=about)


def _find_errors(predictor: Predictor, args: argparse.Namespace) -> ErrorReport:
    return find_errors(
        predictor,
        num_images=args.num_images,
        max_images=args.max_images,
        threshold=args.threshold,
        iou=args.iou,
        masks=args.masks,
    )


def _weights_name(args: argparse.Namespace, predictor: Predictor) -> str:
    loaded = args.checkpoint or OmegaConf.select(predictor.cfg, "train.init_checkpoint")
    return Path(loaded).name if loaded else "random ones"


def _save(args: argparse.Namespace, picture: Picture, path: Path | None = None) -> list[Path]:
    path = path or args.output
    picture = inside.with_fewer_colors(picture, args.colors) if args.colors else picture
    path.write_bytes(picture.png)
    return [path]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="PICTURE")
    for name, draw in _DRAWN.items():
        description = inspect.cleandoc(draw.__doc__ or "")
        command = commands.add_parser(
            name, help=description.splitlines()[0], description=description
        )
        suffix = ".html" if draw is write_report else ".png"
        command.set_defaults(draw=draw, suffix=suffix)
        command.add_argument(
            "--output", type=Path, required=True, help=f"the file to write, a {suffix}"
        )
        if draw is not write_report:
            command.add_argument(
                "--colors", type=int, metavar="N", help="2 to 256; leaves so many, for smaller PNGs"
            )
        command.add_argument("--debug", action="store_true", help="show where an error comes from")
        for add in _OPTIONS[name]:
            add(command)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config-file", required=True, help="a LazyConfig, or a published name")
    command.add_argument("--checkpoint", default="", help="by default that of the config")
    command.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    _add_device(command)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")


def _add_image(command: argparse.ArgumentParser) -> None:
    command.add_argument("--image", required=True, help="the image to look at")


def _add_interactions(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--interactions",
        type=int,
        nargs="+",
        metavar="N",
        help="which ones, from 0; by default up to three: first, last and one between",
    )


def _add_point(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--point",
        type=float,
        nargs=2,
        metavar=("X", "Y"),
        help="in pixels of the image; by default the middle of the best detection",
    )


def _add_heads(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--by-head", action="store_true", help="also a picture by direction, a panel for each head"
    )


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")


def _add_tradeoff(command: argparse.ArgumentParser) -> None:
    command.add_argument("--metric", default="bbox/AP", help="what accuracy means")
    command.add_argument(
        "--latency-images", type=int, default=0, help="time runs on so many test images"
    )
    command.add_argument(
        "--paper-rows", type=Path, default=_PAPER_ROWS, help="the published points, as CSV"
    )
    command.add_argument(
        "--paper-tables", nargs="*", default=["A"], metavar="LETTER", help="of them; none for none"
    )


def _add_errors(command: argparse.ArgumentParser, num_images: int = 8) -> None:
    command.add_argument(
        "--num-images", type=int, default=num_images, help="of the highest loss, to show"
    )
    command.add_argument("--max-images", type=int, default=200, help="to compute the loss of")
    command.add_argument("--threshold", type=float, default=0.5, help="lowest score that counts")
    command.add_argument("--iou", type=float, default=0.5, help="least overlap that counts")
    command.add_argument("--masks", action="store_true", help="masks overlap instead of boxes")


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("--run-dir", type=Path, help="folder of the run, to add its curves")
    _add_errors(command, num_images=0)


_PAPER_ROWS = Path(__file__).resolve().parents[1] / "docs" / "paper_rows.csv"
_DRAWN: dict[str, Callable[[argparse.Namespace], list[Path]]] = {
    "pyramid": draw_pyramid,
    "attention": draw_attention,
    "features": draw_features,
    "merge": draw_merge,
    "curves": draw_curves,
    "pareto": draw_pareto,
    "errors": draw_errors,
    "report": write_report,
}
_OPTIONS: dict[str, Sequence[Callable[[argparse.ArgumentParser], None]]] = {
    "pyramid": (_add_model, _add_image),
    "attention": (_add_model, _add_image, _add_interactions, _add_point, _add_heads),
    "features": (_add_model, _add_image, _add_interactions),
    "merge": (_add_model,),
    "curves": (_add_runs,),
    "pareto": (_add_runs, _add_tradeoff, _add_device),
    "errors": (_add_model, _add_errors),
    "report": (_add_model, _add_image, _add_interactions, _add_point, _add_report),
}

if __name__ == "__main__":
    sys.exit(main())
