"""Pictures of cross-branch attention: what one cell samples in the neighbouring branches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from piip_d2.visualization.inside.attention import Look
from piip_d2.visualization.inside.attention_legend import (
    FULL_AREA,
    QUERY_COLOR,
    attention_caption,
    attention_legends,
    head_name,
)
from piip_d2.visualization.inside.record import Record
from piip_d2.visualization.inside.structure import branch_labels
from piip_d2.visualization.inside.theme import (
    GREY,
    branch_color,
    framed_figure,
    head_colors,
    head_marker,
    show_input,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The least that a panel shows around the samples, in cells of the sampled map.
_LEAST_CELLS = 6
# How far the dashed frame stays away from the edge of the image, as a share of it.
_FRAME_INSET = 0.015
_HEAT = "magma"


def draw_attention(record: Record, looks: Sequence[Look], subtitle: str = "") -> Figure:
    """Draws what the cells at one point attend to: a row per direction, a column per interaction.

    Args:
        record: What happened with the image.
        looks: What the cells attend to, as from :func:`looks_at`; at least one.
        subtitle: What was shown to which model; ends up in the caption.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If nothing attends.
    """
    _check(looks)
    directions = sorted(
        {(look.querying, look.attended) for look in looks}, key=lambda pair: (-max(pair), -pair[0])
    )
    interactions = sorted({look.interaction for look in looks})
    by_place = {(look.querying, look.attended, look.interaction): look for look in looks}
    figure, body = framed_figure(
        max(3.3 * (1 + len(interactions)), 9.5),
        3.25 * len(directions),
        title="Cross-branch attention: what the cell at one point looks at in another branch",
        caption=attention_caption(looks, subtitle)
        + " The dashed frame on the left encloses what is shown beside it, as far as that lies in "
        "the image.",
        legends=attention_legends(record, looks),
    )
    panels = body.subplots(len(directions), 1 + len(interactions), squeeze=False)
    for row, (querying, attended) in zip(panels, directions, strict=True):
        seen = [by_place.get((querying, attended, number)) for number in interactions]
        extent = _common_extent([look for look in seen if look is not None])
        _draw_query(row[0], record, next(filter(None, seen)), extent)
        for axes, look, number in zip(row[1:], seen, interactions, strict=True):
            if look is None:
                _leave_out(axes, f"none in interaction {number}")
                continue
            heat = _draw_look(axes, record, look, extent, range(look.num_heads))
            axes.set_title(
                f"interaction {number}: what it reads\n"
                f"of the {branch_labels(record.network)[attended]}",
                fontsize=9,
            )
            if heat is not None:
                _add_scale(body, axes, heat, "weight, mean of heads")
    return figure


def draw_heads(record: Record, look: Look, subtitle: str = "") -> Figure:
    """Draws one look of one cell, a panel for every head.

    Args:
        record: What happened with the image.
        look: What the cell attends to.
        subtitle: What was shown to which model; ends up in the caption.

    Returns:
        The figure.
    """
    count = look.num_heads
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    labels = branch_labels(record.network)
    figure, body = framed_figure(
        max(3.1 * columns, 9.5),
        3.3 * rows,
        title=f"Interaction {look.interaction}, head by head: the {labels[look.querying]} "
        f"looks at the {labels[look.attended]}",
        caption=attention_caption([look], subtitle),
        legends=attention_legends(record, [look], with_heads=False),
    )
    panels = body.subplots(rows, columns, squeeze=False).flat
    extent = _common_extent([look])
    for head, axes in enumerate(panels):
        if head >= count:
            axes.remove()
            continue
        heat = _draw_look(axes, record, look, extent, [head])
        title = head_name(head, count)
        if heat is not None:
            _add_scale(body, axes, heat, "weight")
        else:
            weights = ", ".join(f"{weight:.2f}" for weight in sorted(look.weights[head])[::-1])
            title += f", weights\n{weights}"
        axes.set_title(title, fontsize=9)
    return figure


def _draw_query(
    axes: Axes, record: Record, look: Look, extent: tuple[float, float, float, float]
) -> None:
    show_input(axes, record, look.querying)
    height, width = record.pyramid[look.querying].shape[-2:]
    _mark_cell(axes, look, (height, width))
    # Along the very edge the panel's own frame would hide it.
    left, right, top, bottom = np.clip(extent, _FRAME_INSET, 1 - _FRAME_INSET)
    axes.add_patch(
        Rectangle(
            (left * width, top * height), (right - left) * width, (bottom - top) * height,
            fill=False, edgecolor="white", linestyle="--", linewidth=1.4,
        )
    )  # fmt: skip
    labels = branch_labels(record.network)
    row, column = look.cell
    axes.set_title(
        f"{labels[look.querying]} looks at {labels[look.attended]}\n"
        f"row {row}, column {column} of {look.cell_grid[0]} x {look.cell_grid[1]} cells",
        fontsize=9,
        fontweight="bold",
    )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    _label(axes, labels[look.querying], look.querying)


def _draw_look(
    axes: Axes,
    record: Record,
    look: Look,
    extent: tuple[float, float, float, float],
    heads: Sequence[int],
) -> Any:
    """Draws the attended branch and what is sampled; returns the heat map if there is one."""
    height, width = record.pyramid[look.attended].shape[-2:]
    show_input(axes, record, look.attended, strength=0.75)
    rows, columns = look.attended_grid
    alpha = float(np.clip(14 / max(rows * (extent[3] - extent[2]), 1), 0.1, 0.7))
    style: dict[str, Any] = {"colors": "white", "linewidth": 0.7, "alpha": alpha}
    axes.hlines(np.arange(rows + 1) * height / rows, 0, width, **style)
    axes.vlines(np.arange(columns + 1) * width / columns, 0, height, **style)
    heat = None
    if look.points is None:
        mean = look.weights[list(heads)].mean(0)
        heat = axes.imshow(mean, cmap=_HEAT, alpha=0.75, extent=(0, width, height, 0), vmin=0)
    else:
        _draw_samples(axes, look, heads, (height, width))
    _mark_cell(axes, look, (height, width))
    left, right, top, bottom = extent
    axes.set_facecolor("#efefef")
    axes.set_xlim(left * width, right * width)
    axes.set_ylim(bottom * height, top * height)
    _label(axes, branch_labels(record.network)[look.attended], look.attended)
    return heat


def _draw_samples(axes: Axes, look: Look, heads: Sequence[int], size: tuple[int, int]) -> None:
    assert look.points is not None and look.outside is not None
    colors = head_colors(look.num_heads)
    height, width = size
    # Heavy samples first, so that light ones stay visible on top.
    order = [(head, point) for head in heads for point in range(look.weights.shape[1])]
    for head, point in sorted(order, key=lambda place: -look.weights[place]):
        x, y = look.points[head, point] * (width, height)
        weight = float(look.weights[head, point])
        is_outside = bool(look.outside[head, point])
        axes.scatter(
            [x], [y],
            s=max(FULL_AREA * weight, 6.0),
            marker=head_marker(head, look.num_heads),
            facecolor="none" if is_outside else colors[head],
            edgecolor=colors[head] if is_outside else "black",
            linewidth=1.4 if is_outside else 0.7,
            alpha=0.95,
            zorder=3,
        )  # fmt: skip


def _mark_cell(axes: Axes, look: Look, size: tuple[int, int]) -> None:
    """Outlines the cell that looks, on axes in pixels of any branch."""
    cell_height, cell_width = (side / n for side, n in zip(size, look.cell_grid, strict=True))
    corner = (look.cell[1] * cell_width, look.cell[0] * cell_height)
    style: dict[str, Any] = {"fill": False, "zorder": 5, "clip_on": True}
    axes.add_patch(Rectangle(corner, cell_width, cell_height, ec="white", lw=3.2, **style))
    axes.add_patch(Rectangle(corner, cell_width, cell_height, ec=QUERY_COLOR, lw=1.8, **style))
    x, y = look.center
    axes.plot([x * size[1]], [y * size[0]], "+", color=QUERY_COLOR, markersize=9, zorder=6)


def _add_scale(body: SubFigure, axes: Axes, heat: Any, label: str) -> None:
    rows, columns = heat.get_array().shape
    bar = body.colorbar(heat, ax=axes, shrink=0.7 * min(rows / columns, 1), pad=0.02)
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label(label, fontsize=8)


def _label(axes: Axes, label: str, branch: int) -> None:
    axes.set_xlabel(f"x in pixels of the {label}", fontsize=8)
    axes.set_ylabel(f"y in pixels of the {label}", fontsize=8)
    axes.tick_params(labelsize=7.5)
    for spine in axes.spines.values():
        spine.set(color=branch_color(branch), linewidth=2.5)


def _leave_out(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, reason, ha="center", va="center", fontsize=9, color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _common_extent(looks: Sequence[Look]) -> tuple[float, float, float, float]:
    """What panels of one direction show: left, right, top, bottom in shares of the image."""
    if looks[0].points is None:
        return 0.0, 1.0, 0.0, 1.0
    first = looks[0]
    xs, ys = (
        np.concatenate([look.points[..., axis].ravel() for look in looks if look.points is not None]
                       + [[first.center[axis]]])
        for axis in (0, 1)
    )  # fmt: skip
    rows, columns = first.attended_grid
    # As many cells in both directions, so that panels are squares where cells are.
    half = max(
        float(np.abs(xs - first.center[0]).max()) * columns,
        float(np.abs(ys - first.center[1]).max()) * rows,
        _LEAST_CELLS / 2,
    ) + 0.8  # fmt: skip
    x, y = first.center
    return x - half / columns, x + half / columns, y - half / rows, y + half / rows


def _check(looks: Sequence[Look]) -> None:
    if not looks:
        raise ValueError(
            "there is no cross-branch attention to draw: the network has no interactions, or none "
            "was recorded"
        )
