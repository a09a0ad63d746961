"""A prediction of memory as a table or as JSON."""

from __future__ import annotations

import json
from typing import Any

from piip_d2.analysis.memory.estimate import MemoryEstimate, Setting
from piip_d2.analysis.memory.storage_watch import WEIGHT_COPIES

GIB = 2**30


def as_dict(setting: Setting, estimate: MemoryEstimate) -> dict[str, Any]:
    """What a program wants to know, in bytes.

    Args:
        setting: What was predicted.
        estimate: The prediction.

    Returns:
        Nothing but dicts, lists, strings and numbers.
    """
    batch = setting.batch
    return {
        "mode": setting.mode,
        "image_size": list(batch.image_size),
        "batch_size": batch.batch_size,
        "num_objects": batch.num_objects,
        "dtype": str(batch.dtype).removeprefix("torch."),
        "device": batch.device,
        "strategy": setting.strategy,
        "world_size": setting.world_size,
        "cpu_offload": setting.cpu_offload,
        "fixed": estimate.fixed,
        "kept_by_part": estimate.kept,
        "phases": estimate.phases,
        "total": estimate.total,
        "host": estimate.host,
    }


def as_json(setting: Setting, estimate: MemoryEstimate) -> str:
    """Writes a prediction as JSON, with a line break at its end."""
    return json.dumps(as_dict(setting, estimate), indent=1) + "\n"


def as_text(setting: Setting, estimate: MemoryEstimate) -> str:
    """Writes a prediction as a table in GiB, with a line break at its end."""
    batch = setting.batch
    height, width = batch.image_size
    dtype = str(batch.dtype).removeprefix("torch.")
    lines = [
        f"{setting.mode}, {batch.batch_size} x {height} x {width} pixels per process, {dtype}, "
        f"{setting.strategy}, {setting.world_size} process(es), {batch.device}",
        "",
        *_rows("all the time", estimate.fixed),
    ]
    kept = dict(estimate.kept)
    if kept:
        copies = kept.pop(WEIGHT_COPIES, 0)
        lines += ["", *_rows("kept from forward to backward", kept, is_summed=True)]
        if copies:
            lines.append(_row("copies of weights by autocast", copies))
    lines += ["", *_rows("at most besides, in each phase", estimate.phases, is_summed=False)]
    lines += ["", _row("total per process", estimate.total)]
    if estimate.host:
        lines.append(_row("in the host's memory", estimate.host))
    return "\n".join(lines) + "\n"


def _rows(title: str, sizes: dict[str, int], *, is_summed: bool = True) -> list[str]:
    head = _row(title, sum(sizes.values())) if is_summed else title
    return [head, *(_row(f"  {name}", size) for name, size in sizes.items())]


def _row(name: str, size: int) -> str:
    return f"{name:<34}{size / GIB:>9.3f} GiB"
