"""A sheet of pictures in rows, with a title, captions and a legend in the picture itself."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import class_color, class_name

__all__ = ["MOST_LABELS", "PANEL", "Sheet", "class_legend", "in_rows", "shorten"]

_Item = TypeVar("_Item")

# All lengths are in pixels of the sheet, at 100 dots an inch. A picture is usually so wide, or
# high if it is higher than wide.
_DPI = 100
PANEL = 440
_CAPTION = 44
_GAP = 12
_TITLE_LINE = 28
_SUBTITLE_LINE = 22
_LEGEND_LINE = 26
_LEGEND_ENTRY = 180

_MOST_LEGEND_ENTRIES = 24

# More names in a picture than this would hide its objects; legend and caption then speak alone.
MOST_LABELS = 12


class Sheet:
    """A sheet of pictures; :attr:`figure` has its own Agg canvas.

    Args:
        title: What the sheet shows.
        subtitle: A second line; may be empty.
        rows: The images shown, ``(H, W, 3)`` each, by row; the first row is the longest.
        legend: Entries of the legend at the bottom.
        panel: Length that the longer side of a picture gets.
        group: Pictures that an image has beside each other; after each group the gap is wider.
    """

    def __init__(
        self,
        title: str,
        subtitle: str,
        *,
        rows: Sequence[Sequence[np.ndarray]],
        legend: Sequence[Patch],
        panel: int = PANEL,
        group: int = 1,
    ) -> None:
        num_columns = group * len(rows[0])
        row_heights = [
            max(math.ceil(image.shape[0] * panel / max(image.shape[:2])) for image in row)
            for row in rows
        ]
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
            handlelength=2.6,
            handleheight=1.0,
        )

    def scale(self, image: np.ndarray) -> float:
        """How many pixels of the sheet there are for one of an image."""
        return self._panel / max(image.shape[:2])

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


def in_rows(items: Sequence[_Item], length: int) -> list[Sequence[_Item]]:
    """Cuts a sequence into rows of so many items; the last one may be shorter."""
    return [items[start : start + length] for start in range(0, len(items), length)]


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
