"""What all diagrams share: a figure of its own, colours, captions, and pictures for a report."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

__all__ = [
    "CAPTION_STYLE",
    "PALETTE",
    "Picture",
    "as_picture",
    "caption_lines",
    "new_figure",
    "write_caption",
]

# Colours of M. Okabe and K. Ito, which people with any kind of colour vision can tell apart; grey
# instead of their yellow, which is hard to see on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")

# Of the text below the axes; the size is in points.
CAPTION_STYLE: dict[str, Any] = {"fontsize": 8.5, "color": "#404040"}
_DPI = 110


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Args:
        title: Its heading.
        caption: What a reader has to know about it.
        png: The picture, as the content of a PNG file.
    """

    title: str
    caption: str
    png: bytes


def new_figure(width: float, height: float) -> Figure:
    """Makes a figure with its own Agg canvas, so that the user's matplotlib backend is left alone.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure, whose axes make room for titles and labels by themselves.
    """
    padded = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=padded, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write_caption(figure: Figure, text: str) -> None:
    """Writes a text below all axes of a figure, in as many lines as it takes.

    Args:
        figure: The figure.
        text: What a reader has to know; an empty one leaves the figure as it is.
    """
    if text:
        figure.supxlabel("\n".join(caption_lines(text, figure.get_figwidth())), **CAPTION_STYLE)


def caption_lines(text: str, width: float) -> list[str]:
    """Breaks a caption into lines.

    Args:
        text: The caption; its own lines stay apart.
        width: What a line may take, in inches.

    Returns:
        The lines, for `CAPTION_STYLE`.
    """
    # A letter is about 0.55 times as wide as its font is high; an inch has 72 points.
    letters = int(width * 72 / (0.55 * CAPTION_STYLE["fontsize"]))
    return [part for line in text.splitlines() for part in textwrap.wrap(line, letters)]


def as_picture(figure: Figure, title: str, caption: str) -> Picture:
    """Turns a figure into a picture of a report."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return Picture(title, caption, content.getvalue())
