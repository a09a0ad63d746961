"""What pictures of the trade-off say about their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from .tradeoff_points import MEASURED, Panel, TradeoffPoint

__all__ = ["BACKBONE", "WHOLE", "describe_panels"]

_DATA_SETS = "AP of different data sets stand on axes of their own: they do not compare."
_LINES = "A line joins the choices of one system that no other choice of it beats in both."
_RESOLUTIONS = "Numbers beside points are the sides of the branches' images in pixels."
_STATED = (
    "Published points: AP and multiply-adds as arXiv 2406.04330 and its repository state them; "
    "neither states a latency."
)

# The end of a label of axes, and what it means.
WHOLE, BACKBONE = "whole detector", "backbone, counted as in the paper"
_CONVENTIONS = {
    WHOLE: "Multiply-adds of the whole detector: the sum of its parts for a square image of the "
    "largest resolution.",
    BACKBONE: "Multiply-adds of the backbone: counted as in the paper.",
}
_FEW = "Images in brackets beside a point: no more were timed, so that its latency is rough."


def describe_panels(
    points: Sequence[TradeoffPoint], panels: Sequence[Panel], *, has_lines: bool
) -> str:
    """Says what a reader has to know.

    Args:
        points: All that was asked for.
        panels: What is drawn of them.
        has_lines: Whether any points are joined.

    Returns:
        A line for each subject.
    """
    about = [_DATA_SETS] * (len({point.dataset for point in points}) > 1) + [_LINES] * has_lines
    points_are = [_RESOLUTIONS] * any("/" in point.label for point in points)
    points_are += [_STATED] * any(point.source != MEASURED for point in points)
    counted = [
        sentence
        for what, sentence in _CONVENTIONS.items()
        if any(what in panel.xlabel for panel in panels)
    ]
    known = [point.latency for point in points if point.latency]
    timed = []
    if known:
        quantiles = dict.fromkeys(latency.quantiles for latency in known if latency.spread)
        bars = f", with bars between {', or '.join(quantiles)}" if quantiles else ""
        timed.append(f"Latency: median{bars}.")
        timed += [_FEW] * any(latency.is_rough for latency in known)
    missing = _missing(points, panels)
    return "\n".join(
        " ".join(part) for part in (about, points_are, counted, timed, missing) if part
    )


def _missing(points: Sequence[TradeoffPoint], panels: Sequence[Panel]) -> list[str]:
    """Names what has no place on some axes, or on none."""
    counted = {
        id(point) for panel in panels if not panel.shows_latency for point, _ in panel.points
    }
    ours = [point for point in points if point.source == MEASURED]
    groups = {
        "Not drawn, for lack of costs": [
            point for point in points if id(point) not in counted and not point.latency
        ],
        "Without multiply-adds, which could not be counted": [
            point for point in ours if id(point) not in counted and point.latency
        ],
        "Without a latency, which --latency-images measures": [
            point for point in ours if id(point) in counted and not point.latency
        ],
    }
    return [
        f"{what}: {', '.join(f'{point.series} {point.label}'.strip() for point in members)}."
        for what, members in groups.items()
        if members
    ]
