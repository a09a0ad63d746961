"""The pyramid as one image meets it: the input, grid, windows and costs of every branch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from piip_d2.analysis import CostReport, count_costs
from piip_d2.layers import RelativePositionAttention, WindowAttention
from piip_d2.modeling.backbone import Branch, ConvNeXtBranch, PIIPNetwork
from piip_d2.visualization.inside.record import Record

NETWORK_REST = "merge, maps"
BEHIND_NETWORK = "neck, heads"


@dataclass(frozen=True)
class BranchView:
    """What one branch sees of an image, and how.

    Args:
        number: Its number; branches ascend in resolution from 0.
        label: What pictures call it.
        description: Its kind, blocks and channels.
        image_size: Height and width of its image in pixels, padding included.
        content_size: Those of what is no padding, which may end within a pixel.
        strides: Pixels per cell, ascending over its depth; one entry where that never changes.
        grid: Rows and columns of its last map.
        windows: Side of the attention windows in cells, by block; None for a block without.
        attention: What its blocks attend to, in words.
    """

    number: int
    label: str
    description: str
    image_size: tuple[int, int]
    content_size: tuple[float, float]
    strides: tuple[int, ...]
    grid: tuple[int, int]
    windows: tuple[int | None, ...]
    attention: str

    @property
    def main_window(self) -> int | None:
        """The window that most blocks with one have; None if none has."""
        sides = Counter(side for side in self.windows if side is not None)
        return sides.most_common(1)[0][0] if sides else None


@dataclass(frozen=True)
class CostShare:
    """Costs of one part of a model.

    Args:
        label: What pictures call it.
        branch: Number of the branch if it is one, else None.
        params: Number of parameters.
        flops: Multiply-adds for one image.
    """

    label: str
    branch: int | None
    params: int
    flops: int


def branch_labels(network: PIIPNetwork) -> list[str]:
    """Names the branches as users know them, by resolution.

    Args:
        network: The network.

    Returns:
        One name per branch, ascending in resolution, all different.
    """
    return _labels_of([cast(Branch, branch).img_size for branch in network.branches])


def view_branches(record: Record) -> list[BranchView]:
    """Describes what every branch saw of an image.

    Args:
        record: What happened with it.

    Returns:
        One entry per branch, ascending in resolution.
    """
    labels = branch_labels(record.network)
    share_of_height, share_of_width = record.content_share
    views = []
    for number, branch in enumerate(record.branches):
        height, width = record.pyramid[number].shape[-2:]
        grid = record.final[number].shape[:2]
        windows, attention = _windows(branch)
        views.append(
            BranchView(
                number,
                labels[number],
                _describe(branch),
                (height, width),
                (height * share_of_height, width * share_of_width),
                tuple(dict.fromkeys(map(branch.stride_after, range(branch.num_blocks)))),
                (grid[0], grid[1]),
                windows,
                attention,
            )
        )
    return views


def cost_shares(model: nn.Module, image_size: tuple[int, int]) -> list[CostShare]:
    """Counts what the parts of a model cost for an image.

    Args:
        model: A network, a backbone around one, or a detector; neither run nor changed.
        image_size: Height and width in pixels of the image, padding included.

    Returns:
        The branches, largest resolution first, the interactions, the rest of the network, and what
        is behind it; parts that cost nothing are left out. The convention is ``"actual"`` of
        :func:`piip_d2.analysis.count_costs`.

    Raises:
        ValueError: If there is no PIIP in ``model``, or its parts cannot be counted.
    """
    report = count_costs(model, image_size=image_size)
    return _group(report)


def _group(report: CostReport) -> list[CostShare]:
    shares: dict[str, CostShare] = {}
    labels = _labels_of(report.resolutions[::-1])
    in_network = {"interactions", "merge", "stage_merges", "feature_maps", "image_pyramid"}
    for part in report.rows:
        branch = None
        if part.name.startswith("branches."):
            branch = int(part.name.split(".")[1])
            label = labels[branch]
        elif part.name == "interactions":
            label = "interactions"
        else:
            label = NETWORK_REST if part.name in in_network else BEHIND_NETWORK
        known = shares.get(label, CostShare(label, branch, 0, 0))
        shares[label] = CostShare(
            label, branch, known.params + part.params, known.flops + part.flops
        )
    order = {"interactions": 1, NETWORK_REST: 2, BEHIND_NETWORK: 3}
    found = [share for share in shares.values() if share.params or share.flops]
    return sorted(found, key=lambda share: order.get(share.label, 0))


def _labels_of(sizes: Sequence[int]) -> list[str]:
    """Names of branches whose images have these longest sides in pixels, ascending."""
    return [
        f"{size} px branch" + (f" (no. {number})" if sizes.count(size) > 1 else "")
        for number, size in enumerate(sizes)
    ]


def _describe(branch: Branch) -> str:
    channels = dict.fromkeys(map(branch.channels_after, range(branch.num_blocks)))
    kind = getattr(branch, "model_name", type(branch).__name__.removesuffix("Branch"))
    widths = "/".join(map(str, channels))
    return f"{kind}, {branch.num_blocks} blocks, {widths} channels"


def _windows(branch: Branch) -> tuple[tuple[int | None, ...], str]:
    windows = tuple(_window_of(block) for block in branch.block_list)
    if not any(windows):
        is_convolutional = isinstance(branch, ConvNeXtBranch) or hasattr(branch, "stages")
        return windows, "convolutions" if is_convolutional else "global attention in all blocks"
    counts = Counter(windows)
    parts = [
        f"{count} {'blocks' if count > 1 else 'block'}: "
        + ("global attention" if side is None else f"windows of {side} x {side} cells")
        for side, count in sorted(counts.items(), key=lambda item: item[0] or math.inf)
    ]
    return windows, ",\n".join(parts)


def _window_of(block: nn.Module) -> int | None:
    for module in block.modules():
        if isinstance(module, RelativePositionAttention) and not module.use_windows:
            return None
        if isinstance(module, WindowAttention):
            return module.window_size
    return None


def windows_edge(grid: Sequence[int], window: int) -> tuple[int, int]:
    """Rows and columns that a grid is filled up to, so that whole windows cover it."""
    return -(-grid[0] // window) * window, -(-grid[1] // window) * window
