"""Measures a trained PIIP at other resolutions: AP, latency, memory and FLOPs.

python tools/sweep_resolutions.py --config-file output/quick/scenes/config.yaml \\
    --checkpoint output/quick/scenes/model_final.pth \\
    --resolutions 256,128,64 192,128,64 --output output/quick/scenes/sweep

Nothing is trained. The folder gets sweep.json, sweep.md and pareto.png; what is measured already
is kept, so that a sweep can be interrupted and continued. docs/RESOLUTIONS.md says more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from detectron2.utils.logger import setup_logger

from piip_d2.analysis.resolutions import (
    Sweep,
    SweepSettings,
    as_markdown,
    front_of,
    parse_resolutions,
    resolution_grid,
)
from piip_d2.engine.output_paths import check_output_folder
from piip_d2.visualization.pareto import ParetoPoint, draw_pareto


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="the configuration that was trained")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument(
        "--resolutions", nargs="+", required=True, metavar="SIDES",
        help="image sides of the branches in pixels, largest first, such as 1120,896,448",
    )  # fmt: skip
    parser.add_argument(
        "--grid", action="store_true", help="combine the sides of each branch in all ways"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--renew-costs", action="store_true", help="measure latency and memory again, keep AP"
    )
    parser.add_argument("--metric", default="bbox/AP", help="accuracy that the picture shows")
    parser.add_argument("--num-images", type=int, default=30, help="images that are timed")
    parser.add_argument(
        "--num-threads", type=int, default=0, help="of the CPU; 0: PyTorch's choice"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    args = parser.parse_args(argv)
    setup_logger(name="piip_d2")
    try:
        check_output_folder(args.output)
        choices = [parse_resolutions(text) for text in args.resolutions]
        if args.grid:
            choices = resolution_grid(choices)
        settings = SweepSettings(
            config_file=args.config_file,
            checkpoint=args.checkpoint,
            overrides=tuple(args.opts),
            device=args.device,
            num_threads=args.num_threads,
            num_images=args.num_images,
        )
        sweep = Sweep(settings, args.output)
        points = sweep.run(choices, renew_costs=args.renew_costs, metric=args.metric)
        front = front_of(points, args.metric)
    except BrokenProcessPool:
        print(
            "sweep_resolutions.py: the process of a point was ended, most likely for lack of "
            "memory; smaller sides take less, and the same command goes on where it stopped",
            file=sys.stderr,
        )
        return 1
    except (ImportError, OSError, ValueError) as error:
        print(f"sweep_resolutions.py: {error}", file=sys.stderr)
        return 1
    write_results(args, sweep, points, front)
    return 0


def write_results(
    args: argparse.Namespace, sweep: Sweep, points: list[dict[str, Any]], front: list[bool]
) -> None:
    """Writes and prints the table, and draws what has an accuracy.

    Args:
        args: The command line's.
        sweep: What was measured.
        points: Its points.
        front: Which of them no other one beats.
    """
    metrics = [args.metric, *(name for name in ("bbox/AP", "segm/AP") if name != args.metric)]
    measured = [name for name in metrics if all(name in point["metrics"] for point in points)]
    # What found nothing has no place in the picture.
    drawn = [
        to_draw(point, args.metric, is_on)
        for point, is_on in zip(points, front, strict=True)
        if point["metrics"][args.metric] is not None
    ]
    table = as_markdown(points, measured)
    (args.output / "sweep.md").write_text(table, encoding="utf-8")
    print(table, end="")
    print("\nGFLOPs are multiply-adds.", end=" ")
    if not drawn:
        print(f"No point has a value of {args.metric}: there is nothing to draw.")
        return
    figure = draw_pareto(
        drawn,
        title=f"{Path(args.config_file).stem} at other resolutions, without training",
        accuracy=f"{args.metric} in %",
        caption="Beside each point: sides of the images of the branches, in pixels. "
        f"{sweep.record['device_name']}, {sweep.record['device']}, PyTorch "
        f"{sweep.record['torch']}, {args.num_images} images one by one.",
    )
    figure.savefig(args.output / "pareto.png")
    print(f"The picture: {args.output / 'pareto.png'}")


def to_draw(point: dict[str, Any], metric: str, is_on_front: bool) -> ParetoPoint:
    """Turns a point of a sweep into one of the picture."""
    cost = point["cost"]
    lower, upper = cost["quartiles_s"]
    return ParetoPoint(
        label="/".join(str(side) for side in point["resolutions"]),
        latency=1e3 * cost["median_s"],
        quartiles=(1e3 * lower, 1e3 * upper),
        accuracy=point["metrics"][metric],
        is_on_front=is_on_front,
        is_marked=point["is_trained"],
    )


if __name__ == "__main__":
    sys.exit(main())
