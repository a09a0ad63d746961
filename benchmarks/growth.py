"""Measures how time and memory grow with the number of tokens where all attention is in windows.

python -m benchmarks.growth --output benchmarks/results/cpu.json --plot docs/images/growth.png

Images are squares of 256 to 4096 pixels; those whose training step would need more memory than
--memory allows are used for inference alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.command import add_common_options, command_line, start
from benchmarks.costs import count_windowed_flop
from benchmarks.networks import EAGER
from benchmarks.rows import INFERENCE, TRAINING, Results
from benchmarks.suite import Deadline, run_tasks
from benchmarks.targets import LARGE_SIDE, growth_exponent
from benchmarks.worker import GROWTH, Task
from piip_d2.visualization.figures import PALETTE, new_figure, write_caption

NETWORK = "piip_ts_windowed"
SIDES = (256, 512, 1024, 1536, 2048, 3072, 4096)
_TINY_SIDES = (256, 512)
# What this network takes per pixel in float32, as measured at 512 pixels.
_BYTES_PER_PIXEL = {INFERENCE: 800, TRAINING: 3300}
_PATIENCE = {"samples": 5, "at_least": 1, "seconds": 6.0}
_TINY_PATIENCE = {"samples": 2, "at_least": 1, "seconds": 0.1, "sample_s": 0.0}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and draws the growth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds for all of it")
    parser.add_argument(
        "--memory", type=float, default=free_gib(), help="GiB that may be taken; most of the free"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="picture to draw")
    args = parser.parse_args(argv)
    results, run = start(args, GROWTH, command_line("benchmarks.growth", argv))
    tasks = []
    for task in plan_tasks(args):
        if needed_gib(task) <= args.memory:
            tasks.append(task)
        else:
            why = f"needs about {needed_gib(task):.0f} GiB of {args.memory:.0f}"
            results.leave_out(GROWTH, task.describe(EAGER), why)
    groups = ([dataclasses.replace(x, flop=_flop(x))] for x in tasks)
    run_tasks(groups, results, run, Deadline(args.budget), limit_s=args.budget)
    if args.plot:
        draw(growth_rows(results), args.plot)


def plan_tasks(args: argparse.Namespace) -> Iterator[Task]:
    """The tasks of a command line, small images first."""
    for side in _TINY_SIDES if args.tiny else SIDES:
        for mode in (INFERENCE, TRAINING):
            yield Task(
                suite=GROWTH,
                network=NETWORK,
                mode=mode,
                dtype="float32",
                variants=(EAGER,),
                device=args.device,
                threads=args.threads,
                image_side=side,
                patience=_TINY_PATIENCE if args.tiny else _PATIENCE,
            )


def needed_gib(task: Task) -> float:
    """Memory that a task takes, beyond that of any process."""
    return (task.image_side or 0) ** 2 * _BYTES_PER_PIXEL[task.mode] / 2**30


def free_gib() -> float:
    """Nine tenths of the memory that this machine has free, or 16 GiB where it does not say."""
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    free = (int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:"))
    return 0.9 * next(free, 16 / 0.9)


def growth_rows(results: Results) -> dict[str, list[dict[str, Any]]]:
    """The rows of this benchmark by mode, small images first."""
    rows = [row for row in results.rows if row["suite"] == GROWTH]
    return {
        mode: sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["tokens"])
        for mode in (INFERENCE, TRAINING)
    }


def own_memory(row: Mapping[str, Any]) -> int:
    """Bytes that a row's process took beyond what it had before the model was built."""
    return int(row["peak_memory_bytes"]) - int(row["idle_memory_bytes"])


def draw(rows: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> Figure:
    """Draws time and memory against tokens, with dotted lines through the last points.

    Args:
        rows: By mode, small images first.
        path: The picture; its folder is made.

    Returns:
        What was drawn.
    """
    figure = new_figure(11.0, 5.4)
    time_axes, memory_axes = figure.subplots(1, 2)
    for color, (mode, found) in zip(PALETTE, rows.items(), strict=False):
        if not found:
            continue
        tokens = [row["tokens"] for row in found]
        for axes, values in (
            (time_axes, [row["median_s"] for row in found]),
            (memory_axes, [own_memory(row) / 2**30 for row in found]),
        ):
            axes.plot(tokens, values, "o-", color=color, label=f"{mode}, measured")
            linear = [values[-1] * count / tokens[-1] for count in tokens]
            axes.plot(tokens, linear, ":", color=color, label=f"{mode}, if linear")
    for axes, title, label in (
        (time_axes, "Time", "seconds for one image (logarithmic)"),
        (memory_axes, "Memory", "GiB beyond those at the start (logarithmic)"),
    ):
        axes.set(xscale="log", yscale="log", ylabel=label)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("tokens of both branches together (logarithmic)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=9)
    figure.suptitle(_title(rows), fontsize=12)
    write_caption(figure, _caption(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return figure


def _title(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What was measured, and where; of several runs all are named."""
    found = list(itertools.chain.from_iterable(rows.values()))
    names = ", ".join(dict.fromkeys(row["name"].rpartition(" ")[0] for row in found)) or NETWORK
    runs = dict.fromkeys(_say_run(row) for row in found)
    return "\n".join([f"{names}: time and memory of one image against its tokens", *runs])


def _say_run(row: Mapping[str, Any]) -> str:
    parts = [row["dtype"], row["variant"], row["device"]]
    if row["threads"]:
        parts.append(f"{row['threads']} thread{'s' * (row['threads'] > 1)}")
    return ", ".join([*parts, f"PyTorch {row['versions']['torch']}"])


def _caption(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    sentences = [
        "Points: medians of squares of "
        + ", ".join(str(side) for side in sorted(_sides(rows)))
        + " pixels. Dotted: growth in proportion to tokens, through the largest image of each mode."
    ]
    exponents = {mode: growth_exponent(found, mode) for mode, found in rows.items()}
    fitted = [f"{value:.2f} ({mode})" for mode, value in exponents.items() if value is not None]
    if fitted:
        sentences.append(
            f"Time grows with tokens to the power of {' and '.join(fitted)} from {LARGE_SIDE} "
            "pixels on."
        )
    return " ".join(sentences)


def _sides(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> set[int]:
    return {row["image_size"][0] for row in itertools.chain.from_iterable(rows.values())}


def _flop(task: Task) -> float:
    assert task.image_side is not None
    return count_windowed_flop(task.image_side, task.mode)


if __name__ == "__main__":
    main()
