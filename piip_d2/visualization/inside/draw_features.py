"""The picture of features: branches around interactions, the merge, and the maps that come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from piip_d2.visualization.inside.components import color_maps, content_cells, relative_change
from piip_d2.visualization.inside.record import Record
from piip_d2.visualization.inside.structure import branch_labels
from piip_d2.visualization.inside.theme import (
    branch_color,
    framed_figure,
    has_padding,
    hatch_padding,
    padding_handle,
    show_input,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = 1.95
# Of a sequential scale that all eyes can follow.
_CHANGE_COLORS = "cividis"
_COLUMN, _ROW = "column of the map", "row of the map"


@dataclass(frozen=True)
class _Column:
    """What a column shows of every branch: a map, or the change between two."""

    title: str
    maps: Sequence[Tensor]
    before: Sequence[Tensor] | None = None


def draw_features(record: Record, subtitle: str = "") -> Figure:
    """Draws the features of every branch on its way, and what the merge makes of them.

    Args:
        record: What happened with the image; the interactions that were recorded are shown.
        subtitle: What was shown to which model; ends up in the caption.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.
    """
    columns = _columns(record)
    merge_panels = len(record.contributions) + 1 + len(record.feature_maps)
    ratio = record.images.shape[-2] / record.images.shape[-1]
    height = _PANEL * min(max(ratio, 0.4), 1.6) + 0.62
    num_branches = len(record.branches)
    heights = [height * num_branches + 0.3, height + 0.55]
    figure, body = framed_figure(
        _PANEL * 1.08 * max(1 + len(columns), merge_panels) + 0.4,
        sum(heights),
        title="Features inside the network: three principal components as red, green and blue",
        caption=_caption(columns, subtitle),
        legends={"": [padding_handle()] if has_padding(record) else []},
    )
    parts: Any = body.subfigures(2, 1, height_ratios=heights)
    upper, lower = parts
    upper.suptitle("Branches around the interactions", fontsize=11)
    lower.suptitle("What the merge adds up, and the feature maps that come out", fontsize=11)
    _draw_branches(upper, record, columns)
    _draw_merge(lower, record)
    return figure


def spread_interactions(count: int, most: int = 3) -> list[int]:
    """Chooses interactions that stand for all: the first, the last and some between.

    Args:
        count: How many there are.
        most: How many to choose at most, from 2.

    Returns:
        Their numbers, from 0, ascending.
    """
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})


def _columns(record: Record) -> list[_Column]:
    total = len(record.network.interactions)
    columns = [_Column("patches", record.embedded)]
    for number, seen in record.interactions.items():
        name = f"interaction {number}"
        columns.append(_Column(f"before\n{name}", seen.before))
        columns.append(_Column(f"after\n{name}", seen.after))
        columns.append(_Column(f"change by\n{name}", seen.after, before=seen.before))
    last = record.interactions.get(total - 1)
    ends_with_interaction = last is not None and all(
        after.shape == final.shape and bool((after == final).all())
        for after, final in zip(last.after, record.final, strict=True)
    )
    if not ends_with_interaction:
        columns.append(_Column("end of the branch,\nto be merged", record.final))
    return columns


def _draw_branches(figure: SubFigure, record: Record, columns: Sequence[_Column]) -> None:
    labels = branch_labels(record.network)
    panels = figure.subplots(len(labels), 1 + len(columns), squeeze=False)
    for row, branch in zip(panels, reversed(range(len(labels))), strict=True):
        show_input(row[0], record, branch)
        _label(row[0], "x in pixels" if branch == 0 else "", "y in pixels")
        row[0].set_title(f"{labels[branch]}:\nits image in pixels", fontsize=9.5)
        shown = [column.maps[branch] for column in columns if column.before is None]
        pictures, explained = _color_by_width(record, shown)
        left = iter(zip(pictures, explained, strict=True))
        for axes, column in zip(row[1:], columns, strict=True):
            if column.before is None:
                picture, share = next(left)
                _show(axes, record, picture, f"{column.title}\n{_percent(share)}")
            else:
                change = relative_change(column.before[branch], column.maps[branch])
                _show_change(figure, axes, record, change, column.title)
        for number, axes in enumerate(row[1:]):
            _label(axes, _COLUMN if branch == 0 else "", "" if number else _ROW)
        for axes in row:
            _finish(axes, branch)


def _draw_merge(figure: SubFigure, record: Record) -> None:
    labels = branch_labels(record.network)
    # Largest resolution first, as above.
    contributions = dict(sorted(record.contributions.items(), reverse=True))
    titles = [f"{labels[branch]},\nprojected, weighted" for branch in contributions]
    titles.append("their sum" if titles else "merged map")
    maps = [_cells(x) for x in (*contributions.values(), record.merged)]
    common = color_maps(maps, record.content_share)
    own = [color_maps([_cells(x)], record.content_share) for x in record.feature_maps.values()]
    panels = figure.subplots(1, len(maps) + len(own), squeeze=False)[0]
    branches = [*contributions, *[None] * (1 + len(own))]
    names = record.feature_maps
    titles += [f"{name}, stride {_stride(record, x)}" for name, x in names.items()]
    pictures = [*common.pictures, *[colored.pictures[0] for colored in own]]
    shares = [*[common.explained] * len(maps), *[colored.explained for colored in own]]
    for axes, branch, title, picture, share in zip(
        panels, branches, titles, pictures, shares, strict=True
    ):
        _show(axes, record, picture, f"{title}\n{_percent(share)}")
        _label(axes, _COLUMN, _ROW if axes is panels[0] else "")
        _finish(axes, branch)


def _color_by_width(record: Record, maps: Sequence[Tensor]) -> tuple[list[np.ndarray], list[float]]:
    """Colours maps, with one basis for all of the same channels."""
    pictures: dict[int, np.ndarray] = {}
    explained: dict[int, float] = {}
    for channels in {x.shape[-1] for x in maps}:
        places = [place for place, x in enumerate(maps) if x.shape[-1] == channels]
        colored = color_maps([maps[place] for place in places], record.content_share)
        pictures |= dict(zip(places, colored.pictures, strict=True))
        explained |= dict.fromkeys(places, colored.explained)
    order = range(len(maps))
    return [pictures[place] for place in order], [explained[place] for place in order]


def _show(axes: Axes, record: Record, picture: np.ndarray, title: str) -> None:
    rows, columns = picture.shape[:2]
    axes.imshow(picture, extent=(0, columns, rows, 0), interpolation="nearest")
    hatch_padding(axes, record, (rows, columns))
    axes.set_title(title, fontsize=9.5)


def _show_change(
    figure: SubFigure, axes: Axes, record: Record, change: np.ndarray, title: str
) -> None:
    rows, columns = change.shape
    inner_rows, inner_columns = content_cells((rows, columns), record.content_share)
    inner = change[:inner_rows, :inner_columns]
    drawn = axes.imshow(
        change * 100,
        extent=(0, columns, rows, 0),
        interpolation="nearest",
        cmap=_CHANGE_COLORS,
        vmin=0,
        # A few cells of next to no length must not darken all others.
        vmax=max(float(np.quantile(inner, 0.98)) * 100, 1e-3),
    )
    hatch_padding(axes, record, (rows, columns))
    axes.set_title(f"{title}\nmedian {np.median(inner):.0%}", fontsize=9.5)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.75, pad=0.02, extend="max")
    bar.ax.tick_params(labelsize=8)
    bar.set_label("in %", fontsize=8.5)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)


def _finish(axes: Axes, branch: int | None) -> None:
    axes.tick_params(labelsize=8, length=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    if branch is not None:
        for spine in axes.spines.values():
            spine.set(color=branch_color(branch), linewidth=2.2)


def _cells(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0)


def _stride(record: Record, x: Tensor) -> int:
    return round(record.images.shape[-1] / x.shape[-1])


def _percent(share: float) -> str:
    return f"{share:.0%} of variance"


def _caption(columns: Sequence[_Column], subtitle: str) -> str:
    sentences = [
        subtitle,
        "Equal colours are equal features within a branch (as long as its channels stay the same), "
        "and within the merge up to the sum; every feature map behind it has colours of its own.",
        "Each cell is brought to mean 0 and deviation 1 over its channels first. The percentage is "
        "how much of the variance the three components hold.",
    ]
    if any(column.before is not None for column in columns):
        sentences.append(
            "Change: length of what the interaction adds to a cell, relative to the cell's own."
        )
    return " ".join(filter(None, sentences))
