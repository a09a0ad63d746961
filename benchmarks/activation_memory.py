#!/usr/bin/env python
"""Counts the memory that DINO keeps for the backward pass, with and without recomputation.

python benchmarks/activation_memory.py --measure --output benchmarks/results/activation_memory.json

The count needs neither a GPU nor the memory that it counts. ``--measure`` also trains one step on
the CPU, in processes of their own, and reports how these grew beside what was counted for them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate

import piip_d2
from piip_d2.analysis.activation_memory import count_activations
from piip_d2.analysis.padding import padded_size
from piip_d2.analysis.recomputation import set_act_checkpoint
from piip_d2.analysis.storage_watch import WEIGHT_COPIES
from piip_d2.analysis.training_forward import run_forward
from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.configs import get_config
from piip_d2.modeling import DINO
from piip_d2.ops import has_extension

# Experiments and the largest image of their training.
EXPERIMENTS = {
    "dino/piip_tsb_1120_896_448_1x": (1120, 1120),
    "dino/piip_tsb_1120_896_448_1x_5scale": (1120, 1120),
    "dino/piip_sbl_1792_1120_672_3x": (1792, 1792),
    "dino/piip_h6b_1024_768_1x": (1024, 1024),
    "dino/piip_lh6b_1536_1024_512_2x": (1536, 1536),
}
PARTS = ("branches", "interactions", "encoder", "decoder")
# Parts that are recomputed, by the name of a column.
SWITCHES = {
    "nothing": (),
    "branches": ("branches",),
    "branches_interactions": ("branches", "interactions"),
    "encoder": ("encoder",),
    "decoder": ("decoder",),
    "everything": PARTS,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MEASURED = ("dino/piip_tsb_1120_896_448_1x", (448, 448))
_GIB = 2**30


def build(name: str) -> DINO:
    """Builds an experiment's detector without numbers."""
    with without_numbers():
        model: DINO = instantiate(get_config(name).model)
    return model


def count(model: DINO, image_size: tuple[int, int]) -> dict[str, dict[str, dict[str, int]]]:
    """Counts bytes with every combination of switches.

    Args:
        model: The detector; its switches are changed.
        image_size: Height and width of one image in pixels.

    Returns:
        Bytes by data type, by what is recomputed, and by part.
    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for dtype_name, dtype in DTYPES.items():
        counts[dtype_name] = {}
        for column, recomputed in SWITCHES.items():
            set_act_checkpoint(model, {part: part in recomputed for part in PARTS})
            counts[dtype_name][column] = count_activations(model, image_size, dtype=dtype)
    return counts


def measure(name: str, image_size: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Trains steps on the CPU, without losses, and says how much memory they took.

    Args:
        name: The experiment.
        image_size: Height and width of one image in pixels.

    Returns:
        By what is recomputed: bytes as counted, bytes by which the process had grown when the
        forward pass was over, and by which it had at most.
    """
    results = {}
    for column in ("nothing", "everything"):
        # Anew each, as processes keep memory once they had it.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[column] = pool.apply(_step, (name, image_size, SWITCHES[column]))
    return results


def as_markdown(report: dict[str, Any]) -> str:
    """The counts as a table, in GiB."""
    heads = [column.replace("_", " + ") for column in SWITCHES]
    lines = [
        f"| Configuration | Image | Type | {' | '.join(heads)} |",
        f"| --- | --- | --- |{' ---: |' * len(heads)}",
    ]
    for name, result in report["results"].items():
        size = " x ".join(str(side) for side in result["image_size"])
        for dtype_name in DTYPES:
            totals = [
                f"{sum(parts.values()) / _GIB:.1f}"
                for parts in result["bytes"][dtype_name].values()
            ]
            lines.append(f"| `{name}` | {size} | {dtype_name} | {' | '.join(totals)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, and writes all numbers where that is said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=tuple(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--measure", action="store_true", help="also train on the CPU")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    args = parser.parse_args(argv)
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "piip_d2": piip_d2.__version__,
        "compiled_operators": has_extension(),
        "date": datetime.date.today().isoformat(),
        "batch_size": 1,
        "results": {
            name: {"image_size": EXPERIMENTS[name], "bytes": count(build(name), EXPERIMENTS[name])}
            for name in args.only
        },
    }
    if args.measure:
        name, image_size = _MEASURED
        measured = measure(name, image_size)
        report["measured"] = {"name": name, "image_size": image_size, "bytes": measured}
        for column, values in measured.items():
            in_gib = {key: f"{value / _GIB:.2f}" for key, value in values.items()}
            print(f"measured, {column} recomputed, GiB: {in_gib}")
    print(as_markdown(report))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _step(name: str, image_size: tuple[int, int], recomputed: Sequence[str]) -> dict[str, int]:
    switches = {part: part in recomputed for part in PARTS}
    planned = build(name)
    set_act_checkpoint(planned, switches)
    counted = count_activations(planned, image_size)
    model: DINO = instantiate(get_config(name).model).train()
    set_act_checkpoint(model, switches)
    images = torch.zeros(1, 3, *padded_size(image_size, model.backbone))
    # Gradients are there before, so that only activations come on top.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = _resident("VmRSS")
    output = run_forward(model, images, image_size)
    after_forward = _resident("VmRSS")
    predictions = [output.encoder, output.decoder, output.denoising]
    sums = [x.logits.sum() + x.boxes.sum() for x in predictions if x is not None]
    torch.stack(sums).sum().backward()
    return {
        "counted": sum(size for part, size in counted.items() if part != WEIGHT_COPIES),
        "grown_by_forward": after_forward - before,
        "grown_at_most": _resident("VmHWM") - before,
    }


def _resident(field: str) -> int:
    """Memory of this process in bytes: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
