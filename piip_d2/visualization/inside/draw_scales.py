"""The picture of what a network has learned about its exchanges, by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from piip_d2.modeling.backbone import PIIPNetwork
from piip_d2.visualization.inside.scales import (
    DirectionScales,
    MergeWeights,
    interaction_scales,
    merge_weights,
)
from piip_d2.visualization.inside.structure import branch_labels
from piip_d2.visualization.inside.theme import GREY, branch_color, framed_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAND = (10, 90)


def draw_scales(network: PIIPNetwork, subtitle: str = "") -> Figure:
    """Draws merge weights, and the size of interaction scales over depth.

    Args:
        network: The network.
        subtitle: Which model this is; ends up in the caption.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.
    """
    scales, merges = interaction_scales(network), merge_weights(network)
    labels = branch_labels(network)
    figure, body = framed_figure(
        14.5,
        4.6,
        title="What the network has learned about its exchanges: interaction scales and merge "
        "weights",
        caption=_caption(subtitle),
        legends={"Scales: line, who is updated; mark, who is read": _handles(scales, labels)},
        legend_columns=5,
    )
    attention, ffn, merge = body.subplots(1, 3, width_ratios=(4, 4, 3))
    _draw_scales(attention, scales, labels, len(network.interactions), "attention")
    _draw_scales(ffn, scales, labels, len(network.interactions), "ffn")
    top = max(attention.get_ylim()[1], ffn.get_ylim()[1])
    for axes in (attention, ffn):
        axes.set_ylim(0, top)
    _draw_merges(merge, merges, labels)
    return figure


def _draw_scales(
    axes: Axes, scales: Sequence[DirectionScales], labels: Sequence[str], count: int, part: str
) -> None:
    name = {"attention": "attention", "ffn": "ConvFFN behind it"}[part]
    axes.set_title(f"Scale of the {name}, by depth", fontsize=10.5)
    axes.set_xlabel("number of the interaction, from 0")
    axes.set_ylabel("|gamma|, mean over channels")
    shown = [(scale, scale.attention if part == "attention" else scale.ffn) for scale in scales]
    if not any(values for _, values in shown):
        _say(axes, f"the network has no {name}" if scales else "the network has no interactions")
        return
    # Side by side, or bands and marks of equal depths would hide one another.
    shifts = np.linspace(-0.12, 0.12, len(shown)) if len(shown) > 1 else [0.0]
    for (scale, values), shift in zip(shown, shifts, strict=True):
        depth = np.array(scale.interactions) + shift
        low, high = np.array([np.percentile(sizes, _BAND) for sizes in values]).T
        mean = np.array([sizes.mean() for sizes in values])
        axes.errorbar(
            depth,
            mean,
            yerr=np.maximum([mean - low, high - mean], 0),
            elinewidth=1,
            capsize=3,
            **_style(scale),
        )
    axes.set_xlim(-0.5, count - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.margins(y=0.1)


def _draw_merges(axes: Axes, merges: Sequence[MergeWeights], labels: Sequence[str]) -> None:
    axes.set_title("Weights of the merge", fontsize=10.5)
    if not merges:
        _say(axes, "nothing is merged: there is one branch")
        return
    branches = sorted({branch for merge in merges for branch in merge.weights}, reverse=True)
    width = 0.8 / len(branches)
    for index, branch in enumerate(branches):
        places = [
            (place, merge.weights[branch])
            for place, merge in enumerate(merges)
            if branch in merge.weights
        ]
        bars = axes.bar(
            [place + (index - (len(branches) - 1) / 2) * width for place, _ in places],
            [weight for _, weight in places],
            width * 0.92,
            color=branch_color(branch),
            label=labels[branch],
        )
        axes.bar_label(
            bars, fmt="{:.2f}", fontsize=9, label_type="center", color="white", fontweight="bold"
        )
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1, label="untrained: 1")
    axes.set_xticks(
        range(len(merges)),
        [
            "at the end" if merge.interaction is None else f"after no. {merge.interaction}"
            for merge in merges
        ],
    )
    axes.set_xlabel("place of the merge")
    axes.set_xlim(-0.9, len(merges) - 0.1)
    axes.set_ylabel("learned weight of a branch")
    axes.margins(y=0.25)
    axes.legend(fontsize=8.5, ncols=2)


def _style(scale: DirectionScales) -> dict[str, Any]:
    """A line in the colour of the branch that is updated, marks in that of the one it reads."""
    return {
        "color": branch_color(scale.querying),
        "markerfacecolor": branch_color(scale.attended),
        "markeredgecolor": branch_color(scale.querying),
        "marker": "v" if scale.attended > scale.querying else "^",
        "linestyle": "-" if scale.attended > scale.querying else "--",
        "markersize": 8,
        "markeredgewidth": 1.6,
        "linewidth": 1.8,
    }


def _handles(scales: Sequence[DirectionScales], labels: Sequence[str]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            label=f"{labels[scale.querying]} reads {labels[scale.attended]}",
            **_style(scale),
        )
        for scale in scales
    ]


def _say(axes: Axes, sentence: str) -> None:
    axes.text(0.5, 0.5, sentence, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def _caption(subtitle: str) -> str:
    return (
        f"{subtitle} An interaction adds gamma times what it read to a branch; gamma has a value "
        "per channel and starts at 0, so that an untrained interaction changes nothing. Marks are "
        f"the mean of |gamma| over channels, bars reach from the {_BAND[0]}th to the {_BAND[1]}th "
        "percentile. Lines have the colour of the branch that is updated, marks that of the branch "
        "it reads. The merge adds up the projected branches, each times its weight."
    )
