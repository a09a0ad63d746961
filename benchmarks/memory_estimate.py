#!/usr/bin/env python
"""Compares the memory that is predicted with what real steps on the CPU take.

python -m benchmarks.memory_estimate --output benchmarks/results/memory_estimate.json

Each row runs in a process of its own, with one thread. Rows that the file has already are not
measured again; ``--only`` measures those whose name contains a word, in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.named_results import fill_file, read_command_line
from piip_d2.analysis.memory.configs import PRECISIONS, Question, estimate_config
from piip_d2.analysis.memory.measurement import MALLOC, Experiment, measure_peak
from piip_d2.analysis.memory.trace import Batch
from piip_d2.configs import get_config_file

MIB = 2**20
TOLERANCE = 0.1
# As many objects as an R-CNN chooses to learn from, so that none is lacking; DINO takes them all.
_OBJECTS = {"mask_rcnn": 128, "cascade_rcnn": 128, "dino": 10}
_TSB = "mask_rcnn/piip_tsb_1120_896_448_1x"


@dataclass(frozen=True)
class Row:
    """What is predicted and measured."""

    config: str
    side: int
    precision: str = "fp32"
    act_checkpoint: bool | str = False
    mode: str = "training"
    batch_size: int = 1

    @property
    def name(self) -> str:
        """Tells rows apart."""
        kept = self.act_checkpoint or "none"
        return f"{self.config} {self.batch_size}x{self.side} {self.precision} {self.mode} {kept}"


ROWS = (
    Row("quick/mask_rcnn_scenes", 512, batch_size=2),
    Row("quick/dino_scenes", 512, batch_size=2),
    Row("quick/cascade_rcnn_scenes", 512, batch_size=2),
    Row(_TSB, 448),
    Row(_TSB, 448, act_checkpoint="selective"),
    Row(_TSB, 448, act_checkpoint="block"),
    Row(_TSB, 448, act_checkpoint="stage"),
    Row(_TSB, 448, precision="bf16"),
    Row(_TSB, 448, precision="bf16", act_checkpoint="block"),
    Row(_TSB, 672, mode="inference"),
    Row("dino/piip_tsb_1120_896_448_1x", 448),
    Row("dino/piip_tsb_1120_896_448_1x", 448, act_checkpoint="block"),
    Row("cascade_rcnn/piip_tsb_1568_1120_672_1x", 448),
)


def compare(row: Row) -> dict[str, Any]:
    """Predicts and measures a row.

    Args:
        row: What is compared.

    Returns:
        Both in bytes, and the share of the measured that is predicted.
    """
    kind = row.config.split("/")[0]
    if kind == "quick":
        kind = row.config.split("/")[1].removesuffix("_scenes")
        num_objects = 8
    else:
        num_objects = _OBJECTS[kind]
    question = Question(
        image_size=(row.side, row.side),
        batch_size=row.batch_size,
        mode=row.mode,
        precision=row.precision,
        act_checkpoint=row.act_checkpoint,
        num_objects=num_objects,
    )
    file = get_config_file(row.config)
    _, estimate = estimate_config(file, question)
    batch = Batch((row.side, row.side), row.batch_size, PRECISIONS[row.precision], num_objects)
    experiment = Experiment(
        file,
        batch,
        get_config_file(f"quick/{kind}_scenes"),
        mode=row.mode,
        act_checkpoint=row.act_checkpoint,
    )
    measured = measure_peak(experiment)
    return {
        "predicted": estimate.total,
        "measured": measured,
        "ratio": round(estimate.total / measured, 3),
    }


def as_markdown(results: Mapping[str, Any]) -> str:
    """Both as a table, in MiB."""
    lines = [
        "| Configuration | Images | Type | Step | Recomputed | Predicted | Measured | Ratio |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in ROWS:
        found = results.get(row.name)
        if found:
            size = f"{row.batch_size} x {row.side} x {row.side}"
            sizes = " | ".join(f"{found[key] / MIB:.0f}" for key in ("predicted", "measured"))
            lines.append(
                f"| `{row.config}` | {size} | {row.precision} | {row.mode} "
                f"| {row.act_checkpoint or 'nothing'} | {sizes} | {found['ratio']:.2f} |"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, and writes the file after every row."""
    args = read_command_line(__doc__, argv)
    print(as_markdown(fill_file(args, ROWS, _compare, malloc=MALLOC, threads=1)))


def _compare(row: Row) -> tuple[dict[str, Any], str]:
    found = compare(row)
    return found, str(found)


if __name__ == "__main__":
    main()
