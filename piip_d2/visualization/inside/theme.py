"""How pictures of the inside look: figures, colours, captions, images with their padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from piip_d2.visualization.figures import CAPTION_STYLE, PALETTE, caption_lines, new_figure
from piip_d2.visualization.inside.record import Record

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from torch import Tensor

# Shapes beside colours, for eyes and printers that see none.
MARKERS = "osD^vP*X"
GREY = "#8a8a8a"
PADDING = "#c9c9c9"

# Inches that an entry of a legend takes, and legends beside each other with up to four lines.
_LEGEND_COLUMN = 2.0
_LEGEND_WIDTH = 2.9
_LEGEND_LINES = 4


def framed_figure(
    width: float,
    body_height: float,
    *,
    title: str,
    caption: str,
    legends: Mapping[str, Sequence[Artist]] | None = None,
    legend_columns: int = 6,
) -> tuple[Figure, SubFigure]:
    """Makes a figure with a title above, a legend and a caption below.

    Args:
        width: In inches.
        body_height: Height in inches of what is between title and legend.
        title: What the figure shows.
        caption: How to read it; broken into lines.
        legends: What is explained, with labels, by the title of its legend; legends without
            entries are left out.
        legend_columns: Entries beside one another in a legend that is alone, at most.

    Returns:
        The figure, and the part of it to draw in.
    """
    lines = caption_lines(caption, width)
    shown = {name: entries for name, entries in (legends or {}).items() if entries}
    columns = [
        max(1, min(legend_columns, len(entries), int(width / _LEGEND_COLUMN)))
        if len(shown) == 1
        else -(-len(entries) // _LEGEND_LINES)
        for entries in shown.values()
    ]
    heights = [
        _legend_height(name, entries, count)
        for (name, entries), count in zip(shown.items(), columns, strict=True)
    ]
    footer_height = max(heights, default=0.0) + 0.175 * len(lines) + 0.15
    figure = new_figure(width, body_height + footer_height + 0.5)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    parts: Any = figure.subfigures(2, 1, height_ratios=[body_height + 0.5, footer_height])
    body, footer = parts
    for number, (name, entries) in enumerate(shown.items()):
        footer.legend(
            handles=entries,
            title=name or None,
            title_fontsize=9,
            alignment="left",
            loc="upper center",
            bbox_to_anchor=(0.5 + (number - (len(shown) - 1) / 2) * _LEGEND_WIDTH / width, 1.0),
            ncols=columns[number],
            fontsize=8.5,
            handlelength=2.6,
            labelspacing=0.65,
        )
    below = 0.07 / footer_height
    footer.text(0.5, below, "\n".join(lines), ha="center", va="bottom", **CAPTION_STYLE)
    return figure, body


def _legend_height(title: str, entries: Sequence[Artist], columns: int) -> float:
    """Inches that a legend takes; the entries of a row are as high as the one with most lines."""
    more_lines = sum(str(entry.get_label()).count("\n") for entry in entries)
    return 0.26 * -(-len(entries) // columns) + 0.15 * more_lines + 0.2 * bool(title) + 0.18


def branch_color(number: int) -> tuple[float, float, float]:
    """The colour, RGB in [0, 1], that stands for a branch in all pictures."""
    return to_rgb(PALETTE[number % (len(PALETTE) - 1)])  # without the grey


def head_colors(count: int) -> np.ndarray:
    """(count, 3), the colours of attention heads: distinct ones for few, a scale for many."""
    if count <= len(PALETTE):
        return np.array([to_rgb(color) for color in PALETTE[:count]])
    return colormaps["viridis"](np.linspace(0, 1, count))[:, :3]


def head_marker(head: int, count: int) -> str:
    """The mark of one of ``count`` heads: shapes of their own for few, circles for many."""
    return MARKERS[head] if count <= len(PALETTE) else "o"


def to_picture(record: Record, images: Tensor) -> np.ndarray:
    """Turns normalised pixels back into a picture.

    Args:
        record: Says how they were normalised; if unknown, the range of values is stretched.
        images: (3, h, w).

    Returns:
        (h, w, 3), RGB in [0, 1].
    """
    pixels = images.permute(1, 2, 0).double().numpy()
    if record.pixel_mean is not None and record.pixel_std is not None:
        pixels = (pixels * np.array(record.pixel_std) + np.array(record.pixel_mean)) / 255
    else:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / max(high - low, np.finfo(np.float32).tiny)
    if record.channel_order == "BGR":
        pixels = pixels[..., ::-1]
    return pixels.clip(0, 1)


def show_input(axes: Axes, record: Record, branch: int, *, strength: float = 1.0) -> None:
    """Draws what a branch sees, with padding hatched, on axes in pixels of that branch.

    Args:
        axes: Where.
        record: What happened.
        branch: Number of the branch.
        strength: Less than 1 turns the picture pale and grey, so that marks on it stand out.
    """
    picture = to_picture(record, record.pyramid[branch])
    if strength < 1:
        grey = picture.mean(axis=2, keepdims=True)
        picture = 1 - strength + strength * (0.35 * picture + 0.65 * grey)
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
    hatch_padding(axes, record, (height, width))


def hatch_padding(axes: Axes, record: Record, size: Sequence[float]) -> None:
    """Hatches padding on axes over the whole padded image.

    Args:
        axes: Where.
        record: Says what is padding.
        size: Height and width of the padded image in units of the axes.
    """
    height, width = size
    share_of_height, share_of_width = record.content_share
    bottom, right = height * share_of_height, width * share_of_width
    for corner, extent in (
        ((0, bottom), (width, height - bottom)),
        ((right, 0), (width - right, bottom)),
    ):
        if min(extent) > 0:
            axes.add_patch(Rectangle(corner, *extent, **_PADDING_STYLE))


def padding_handle() -> Patch:
    """The legend's entry for padding."""
    return Patch(label="padding", **_PADDING_STYLE)


def has_padding(record: Record) -> bool:
    """Whether any of the image is padding."""
    return min(record.content_share) < 1


_PADDING_STYLE: dict[str, Any] = {
    "facecolor": PADDING,
    "edgecolor": "#777777",
    "hatch": "////",
    "linewidth": 0.0,
}
