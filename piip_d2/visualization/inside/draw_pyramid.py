"""The picture of the pyramid: each branch's input with token grid and windows, and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from piip_d2.visualization.inside.record import Record
from piip_d2.visualization.inside.structure import (
    BEHIND_NETWORK,
    NETWORK_REST,
    BranchView,
    CostShare,
    view_branches,
    windows_edge,
)
from piip_d2.visualization.inside.theme import (
    branch_color,
    framed_figure,
    has_padding,
    padding_handle,
    show_input,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GRID_COLOR = "white"
_WINDOW_COLOR = "#ffd400"
_REST_COLORS = {"interactions": "#4d4d4d", NETWORK_REST: "#bdbdbd"}
# Shares below this are too narrow to write a number on.
_WRITTEN_SHARE = 0.045


def draw_pyramid(record: Record, costs: Sequence[CostShare], subtitle: str = "") -> Figure:
    """Draws what every branch gets of an image, how it cuts it up, and what that costs.

    Args:
        record: What happened with the image.
        costs: What parts of the model cost, as from :func:`cost_shares`; may be empty.
        subtitle: What was shown to which model; ends up in the caption.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.
    """
    views = view_branches(record)[::-1]
    ratio = record.images.shape[-2] / record.images.shape[-1]
    panel = 4.2
    picture_height = panel * min(max(ratio, 0.4), 1.6)
    # The legend beside the bars has two lines for each part, and a title.
    cost_height = max(1.9, 0.4 * len(costs) + 0.5) if costs else 0.0
    figure, body = framed_figure(
        max(panel * len(views), 9.0),
        picture_height + 1.3 + cost_height,
        title="The image pyramid: what each branch gets, and what it costs",
        caption=_caption(record, views, costs, subtitle),
    )
    rows = body.subfigures(
        2 if costs else 1,
        1,
        height_ratios=[picture_height + 1.4, cost_height] if costs else None,
        squeeze=False,
    )
    panels = rows[0, 0].subplots(1, len(views), squeeze=False)[0]
    shares = _drawn_shares(views)
    for axes, view in zip(panels, views, strict=True):
        _draw_branch(axes, record, view, shares)
    rows[0, 0].legend(
        handles=_handles(record, views), loc="outside lower center", ncols=4, fontsize=8.5
    )
    if costs:
        _draw_costs(rows[1, 0].subplots(), costs)
    return figure


def _drawn_shares(views: Sequence[BranchView]) -> tuple[float, float]:
    """How far panels reach down and right, in sizes of the image: as far as any window does."""
    shares = [(1.0, 1.0)]
    for view in views:
        filled = windows_edge(view.grid, view.main_window or 1)
        shares.append(
            (
                filled[0] * view.strides[-1] / view.image_size[0],
                filled[1] * view.strides[-1] / view.image_size[1],
            )
        )
    return max(share for share, _ in shares), max(share for _, share in shares)


def _draw_branch(axes: Axes, record: Record, view: BranchView, shares: tuple[float, float]) -> None:
    show_input(axes, record, view.number)
    rows, columns = view.grid
    stride = view.strides[-1]
    # Lines fade where cells are small, or they would hide the image.
    alpha = float(np.clip(12 / max(rows, columns), 0.18, 0.6))
    style: dict[str, Any] = {"colors": _GRID_COLOR, "linewidth": 0.6, "alpha": alpha}
    axes.hlines(np.arange(rows + 1) * stride, 0, columns * stride, **style)
    axes.vlines(np.arange(columns + 1) * stride, 0, rows * stride, **style)
    height, width = view.image_size
    if view.main_window:
        filled = windows_edge(view.grid, view.main_window)
        _draw_windows(axes, view, (rows, columns), filled, stride)
    axes.set_xlim(0, width * shares[1])
    axes.set_ylim(height * shares[0], 0)
    for spine in axes.spines.values():
        spine.set(color=branch_color(view.number), linewidth=3)
    axes.set_title(
        f"{view.label}: {width} x {height} px\n{view.description}\n"
        f"{columns} x {rows} = {columns * rows:,} tokens of {stride} px\n{view.attention}",
        fontsize=9.5,
    )
    axes.set_xlabel("x in pixels of this branch", fontsize=9)
    axes.set_ylabel("y in pixels of this branch", fontsize=9)
    axes.tick_params(labelsize=8)


def _draw_windows(
    axes: Axes, view: BranchView, grid: tuple[int, int], filled: tuple[int, int], stride: int
) -> None:
    rows, columns = filled
    step = (view.main_window or 1) * stride
    bottom, right = rows * stride, columns * stride
    for corner, size in (
        ((0, grid[0] * stride), (right, bottom - grid[0] * stride)),
        ((grid[1] * stride, 0), (right - grid[1] * stride, grid[0] * stride)),
    ):
        if min(size) > 0:
            axes.add_patch(Rectangle(corner, *size, **_FILLING_STYLE))
    style: dict[str, Any] = {"colors": _WINDOW_COLOR, "linewidth": 1.6}
    # Those along the edge would hide the frame.
    axes.hlines(np.arange(step, bottom, step), 0, right, **style)
    axes.vlines(np.arange(step, right, step), 0, bottom, **style)


def _draw_costs(axes: Axes, costs: Sequence[CostShare]) -> None:
    costs = [cost for cost in costs if cost.label != BEHIND_NETWORK]
    totals = {
        "multiply-adds": (sum(cost.flops for cost in costs), "G", 1e9),
        "parameters": (sum(cost.params for cost in costs), "M", 1e6),
    }
    lefts = [0.0, 0.0]
    for cost in costs:
        color = _REST_COLORS[cost.label] if cost.branch is None else branch_color(cost.branch)
        shares = [
            value / max(total, 1)
            for value, (total, *_) in zip((cost.flops, cost.params), totals.values(), strict=True)
        ]
        axes.barh(
            [0, 1],
            shares,
            left=lefts,
            color=color,
            edgecolor="white",
            height=0.62,
            label=f"{cost.label}\n{cost.flops / 1e9:.3g} G, {cost.params / 1e6:.3g} M",
        )
        for row, share in enumerate(shares):
            if share >= _WRITTEN_SHARE:
                axes.text(
                    lefts[row] + share / 2,
                    row,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="black" if sum(to_rgb(color)) > 1.4 else "white",
                )
        lefts = [left + share for left, share in zip(lefts, shares, strict=True)]
    axes.set_yticks(
        [0, 1],
        [f"{name}\n{total / unit:.3g} {sign}" for name, (total, sign, unit) in totals.items()],
        fontsize=9,
    )
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.set_xticks(np.linspace(0, 1, 6), [f"{share:.0%}" for share in np.linspace(0, 1, 6)])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("share of the network", fontsize=9)
    axes.set_title(
        "Cost of each part of the network, without neck and heads behind it", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        title=" and ".join(totals),
        title_fontsize=8.5,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=8.5,
        frameon=False,
        alignment="left",
    )


def _handles(record: Record, views: Sequence[BranchView]) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Patch(facecolor="#6f6f6f", edgecolor="white", hatch="++", label="token grid (last map)")
    ]
    windowed = [view for view in views if view.main_window]
    if windowed:
        handles.append(Line2D([], [], color=_WINDOW_COLOR, linewidth=2, label="attention windows"))
    if any(windows_edge(view.grid, view.main_window or 1) != view.grid for view in windowed):
        handles.append(Patch(label="zeros that fill up the last windows", **_FILLING_STYLE))
    if has_padding(record):
        handles.append(padding_handle())
    return handles


def _caption(
    record: Record, views: Sequence[BranchView], costs: Sequence[CostShare], subtitle: str
) -> str:
    height, width = record.images.shape[-2:]
    content_height, content_width = record.content_size
    sentences = [subtitle]
    if has_padding(record):
        sentences.append(
            f"The image of {content_width} x {content_height} pixels is padded to {width} x "
            f"{height}."
        )
    sentences.append("Every branch gets the same image at a scale of its own.")
    if any(len(view.strides) > 1 for view in views):
        sentences.append("Convolutional branches begin with finer cells than those drawn.")
    if costs:
        sentences.append("Costs count everything that runs for this image (docs/COSTS.md).")
        for cost in costs:
            if cost.label == BEHIND_NETWORK:
                sentences.append(
                    f"Neck and heads behind the network cost {cost.flops / 1e9:.3g} G "
                    f"multiply-adds and {cost.params / 1e6:.3g} M parameters."
                )
    return " ".join(filter(None, sentences))


_FILLING_STYLE: dict[str, Any] = {
    "facecolor": "#fff6c2",
    "edgecolor": "#c9a800",
    "hatch": "....",
    "linewidth": 0.0,
}
