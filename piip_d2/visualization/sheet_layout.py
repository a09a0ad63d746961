"""A sheet of pictures in rows, with a title, captions and a legend in the picture itself."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import class_color, class_name

__all__ = ["Sheet", "class_legend", "panel_height", "shorten"]

# All lengths are in pixels of the sheet, at 100 dots an inch.
_DPI = 100
_CAPTION = 44
_GAP = 12
_TITLE_LINE = 28
_SUBTITLE_LINE = 22
_LEGEND_LINE = 26
_LEGEND_ENTRY = 180

_MOST_LEGEND_ENTRIES = 24


class Sheet:
    """A sheet of pictures; :attr:`figure` has its own Agg canvas.

    Args:
        title: What the sheet shows.
        subtitle: A second line; may be empty.
        row_heights: Height of the pictures of each row.
        num_columns: Pictures beside each other.
        panel: Width that each of them has.
        legend: Entries of the legend at the bottom.
        group: Pictures that belong together; after each group the gap is wider.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        *,
        row_heights: Sequence[int],
        num_columns: int,
        panel: int,
        legend: Sequence[Patch],
        group: int = 1,
    ) -> None:
        self._panel = panel
        self._group = group
        legend_columns = max(1, num_columns * panel // _LEGEND_ENTRY)
        legend_height = _LEGEND_LINE * math.ceil(len(legend) / legend_columns) + _GAP
        self._width = self._left(num_columns - 1) + panel + 2 * _GAP
        # An average letter is about 12.5 pixels wide in the title's font, 8.5 in the subtitle's.
        title_lines = textwrap.wrap(title, int(self._width / 12.5))
        subtitle_lines = textwrap.wrap(subtitle, int(self._width / 8.5))
        header = _TITLE_LINE * len(title_lines) + _SUBTITLE_LINE * len(subtitle_lines) + 2 * _GAP
        heights = [_CAPTION + height + _GAP for height in row_heights]
        self._tops = [header + sum(heights[:row]) for row in range(len(heights))]
        self._height = header + sum(heights) + legend_height
        size = (self._width / _DPI, self._height / _DPI)
        self.figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self.figure)
        self._write_header(title_lines, subtitle_lines)
        self.figure.legend(
            handles=list(legend),
            loc="lower center",
            ncols=min(legend_columns, len(legend)),
            frameon=False,
            fontsize=10,
        )

    def place(self, row: int, column: int, picture: np.ndarray, caption: str) -> None:
        """Puts a caption and, pixel by pixel, a picture below it, centred in its column.

        Args:
            row: From 0 at the top.
            column: From 0 at the left.
            picture: ``(H, W, 3)``, RGB in uint8, not larger than its panel.
            caption: At most two lines.
        """
        height, width = picture.shape[:2]
        left, top = self._left(column), self._tops[row]
        self.figure.text(
            (left + self._panel / 2) / self._width,
            1 - (top + _CAPTION - 5) / self._height,
            caption,
            ha="center",
            va="bottom",
            fontsize=10,
            linespacing=1.25,
        )
        x = left + (self._panel - width) // 2
        y = top + _CAPTION
        corners = (
            x / self._width,
            1 - (y + height) / self._height,
            width / self._width,
            height / self._height,
        )
        axes = self.figure.add_axes(corners)
        axes.imshow(picture, interpolation="none", aspect="auto")
        axes.set_axis_off()

    def _left(self, column: int) -> int:
        groups_before = column // self._group
        return _GAP + column * (self._panel + _GAP) + groups_before * _GAP

    def _write_header(self, title_lines: Sequence[str], subtitle_lines: Sequence[str]) -> None:
        top = _GAP
        for line in title_lines:
            y = 1 - (top + _TITLE_LINE / 2) / self._height
            self.figure.text(0.5, y, line, ha="center", va="center", fontsize=15, weight="bold")
            top += _TITLE_LINE
        for line in subtitle_lines:
            y = 1 - (top + _SUBTITLE_LINE / 2) / self._height
            self.figure.text(0.5, y, line, ha="center", va="center", fontsize=11)
            top += _SUBTITLE_LINE


def panel_height(image: np.ndarray, panel: int) -> int:
    """Returns how high an image becomes whose longer side is as wide as a panel."""
    height, width = image.shape[:2]
    return math.ceil(panel * height / max(height, width))


def class_legend(classes: Iterable[int], class_names: Sequence[str]) -> list[Patch]:
    """Makes the part of a legend that is about classes.

    Args:
        classes: Indices of the classes shown.
        class_names: Names by class index.

    Returns:
        An entry for each class, or for the first few of many.
    """
    listed = sorted(classes)
    entries = [
        Patch(facecolor=class_color(index), edgecolor="black", label=class_name(index, class_names))
        for index in listed[:_MOST_LEGEND_ENTRIES]
    ]
    if len(listed) > _MOST_LEGEND_ENTRIES:
        left_out = len(listed) - _MOST_LEGEND_ENTRIES
        entries.append(Patch(facecolor="none", label=f"and {left_out} more classes"))
    return entries


def shorten(name: str, longest: int = 48) -> str:
    """Returns a name with its middle left out if it has too many letters."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
