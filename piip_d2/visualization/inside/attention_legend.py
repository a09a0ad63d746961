"""What pictures of attention explain: legend, caption, and the marks of heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from piip_d2.visualization.figures import PALETTE
from piip_d2.visualization.inside.attention import Look
from piip_d2.visualization.inside.record import Record
from piip_d2.visualization.inside.theme import has_padding, head_colors, head_marker, padding_handle

QUERY_COLOR = "#d50000"
# Area of a sample in points squared that has all the weight of its head.
FULL_AREA = 260.0
_SHOWN_WEIGHTS = (0.1, 0.25, 0.5, 1.0)


def attention_legends(
    record: Record, looks: Sequence[Look], *, with_heads: bool = True
) -> dict[str, list[Line2D | Patch]]:
    """Makes legends for heads, for sizes of marks and for what else is drawn.

    Args:
        record: What happened with the image; says whether any of it is padding.
        looks: What is drawn.
        with_heads: Whether heads are told apart by colours and shapes.

    Returns:
        Entries with labels, by the title of their legend.
    """
    sampled = [look for look in looks if look.points is not None]
    legends: dict[str, list[Line2D | Patch]] = {}
    if with_heads and sampled:
        legends["Head: colour and shape"] = _head_handles(max(look.num_heads for look in sampled))
    if sampled:
        legends["Weight in its head: area"] = [
            Line2D([], [], ls="", marker="o", mfc="#cccccc", mec="black", mew=0.7,
                   ms=math.sqrt(FULL_AREA * weight), label=f"{weight:g}")
            for weight in _SHOWN_WEIGHTS
        ]  # fmt: skip
    marks: list[Line2D | Patch] = [
        Line2D([], [], ls="", marker="s", mfc="none", mec=QUERY_COLOR, mew=1.8, ms=10,
               label="the cell that looks"),
    ]  # fmt: skip
    if any(look.outside is not None and look.outside.any() for look in looks):
        marks.append(
            Line2D([], [], ls="", marker="o", mfc="none", mec="black", mew=1.4, ms=8,
                   label="hollow: half a cell or more\noutside the map, reads zeros")
        )  # fmt: skip
    if has_padding(record):
        marks.append(padding_handle())
    legends["Also drawn"] = marks
    return legends


def _head_handles(count: int) -> list[Line2D | Patch]:
    colors = head_colors(count)
    # Of many heads some stand for the scale of colours.
    shown = np.linspace(0, count - 1, count if count <= len(PALETTE) else 4).round().astype(int)
    return [
        Line2D([], [], ls="", marker=head_marker(head, count), mfc=colors[head], mec="black",
               mew=0.7, ms=8, label=head_name(head, count))
        for head in shown
    ]  # fmt: skip


def head_name(head: int, count: int) -> str:
    """What one of ``count`` heads is called: the first one, of index 0, is 1."""
    return f"head {head + 1} of {count}"


def attention_caption(looks: Sequence[Look], subtitle: str) -> str:
    """How to read what is drawn; ``subtitle`` goes first."""
    sentences = [subtitle]
    counts = {look.weights.shape[1] for look in looks if look.points is not None}
    if counts:
        sentences.append(
            f"Each head reads {' or '.join(map(str, sorted(counts)))} points; the size of a mark "
            "is its weight, and the weights of a head add up to 1. A panel shows the part of the "
            "other branch's image around the cell that all points lie in, with the cells of "
            "that branch's map."
        )
    if any(look.points is None for look in looks):
        sentences.append("Regular attention weighs all cells; the colours show how much.")
    return " ".join(filter(None, sentences))
