"""The sizes of all maps in a network, from its structure alone.

What :mod:`piip_d2.analysis.paper` and :mod:`piip_d2.analysis.released_script` count from. Images
are square here, as in both; :mod:`piip_d2.analysis.actual` runs the network instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from piip_d2.checkpoint.network_layout import official_family
from piip_d2.modeling.backbone import (
    Branch,
    CrossBranchAttention,
    InteractionStage,
    InteractionUnit,
    PIIPNetwork,
    ViTBranch,
)


@dataclass(frozen=True)
class MapSize:
    """Size of a square feature map.

    Args:
        channels: Its channels.
        side: Its cells from left to right, and from top to bottom.
    """

    channels: int
    side: int

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.side**2

    @property
    def elements(self) -> int:
        """Number of numbers."""
        return self.channels * self.cells


@dataclass(frozen=True)
class Direction:
    """One branch attending to another.

    Args:
        module: What does it.
        query: The map that is updated.
        feature: The map that is attended to.
    """

    module: CrossBranchAttention
    query: MapSize
    feature: MapSize


class SizedNetwork:
    """A network together with the side of every branch's image.

    Args:
        network: The network.
        resolutions: Image sides in pixels, largest first; None for the branches' nominal sizes.

    Raises:
        ValueError: See :func:`check_resolutions`.
    """

    def __init__(self, network: PIIPNetwork, resolutions: Sequence[int] | None = None) -> None:
        self.network = network
        self.branches = [cast(Branch, branch) for branch in network.branches]
        if resolutions is None:
            resolutions = [branch.img_size for branch in self.branches[::-1]]
        check_resolutions(resolutions, self.branches)
        self.resolutions = tuple(resolutions)
        self.sides = self.resolutions[::-1]

    def map_after(self, branch: int, block: int) -> MapSize:
        """The map of a branch (internal number) behind one of its blocks."""
        module = self.branches[branch]
        return MapSize(
            module.channels_after(block), self.sides[branch] // module.stride_after(block)
        )

    def maps_at(self, interaction: int | None) -> list[MapSize]:
        """The maps of all branches at an interaction, or at the end of the network."""
        blocks = [
            module.num_blocks - 1 if interaction is None else indexes[interaction]
            for module, indexes in zip(
                self.branches, self.network.interaction_block_indexes, strict=True
            )
        ]
        return [self.map_after(branch, block) for branch, block in enumerate(blocks)]

    def directions(self, interaction: int) -> Iterator[Direction]:
        """Who attends to whom in an interaction."""
        stage = cast(InteractionStage, self.network.interactions[interaction])
        maps = self.maps_at(interaction)
        for (low, high), module in zip(stage.pairs, stage.units, strict=True):
            unit = cast(InteractionUnit, module)
            if unit.high_to_low is not None:
                yield Direction(unit.high_to_low, query=maps[low], feature=maps[high])
            if unit.low_to_high is not None:
                yield Direction(unit.low_to_high, query=maps[high], feature=maps[low])

    def merges(self) -> Iterator[tuple[str, nn.Module, list[MapSize]]]:
        """All merges in the order of depth, with their names and the maps they see."""
        for index, module in self.network.stage_merges.items():
            yield f"stage_merges.{index}", module, self.maps_at(int(index))
        yield "merge", self.network.merge, self.maps_at(None)


def check_resolutions(resolutions: Sequence[int], branches: Sequence[Branch]) -> None:
    """Refuses image sides that a pyramid of these branches cannot have.

    Args:
        resolutions: Image sides in pixels, largest first.
        branches: The branches, smallest image first.

    Raises:
        ValueError: If there is not one per branch, their order is wrong, or one is less than a
            cell of its branch's last map.
    """
    if len(resolutions) != len(branches):
        raise ValueError(
            f"resolutions must be one side in pixels for each of the {len(branches)} branches, got "
            f"{len(resolutions)}: {list(resolutions)}"
        )
    if list(resolutions) != sorted(resolutions, reverse=True):
        raise ValueError(
            f"resolutions must be given largest first, got {list(resolutions)}; "
            f"take {sorted(resolutions, reverse=True)}"
        )
    for side, branch in zip(resolutions, branches[::-1], strict=True):
        cell = branch.stride_after(branch.num_blocks - 1)
        if side < cell:
            raise ValueError(
                f"resolutions must be at least one cell of each branch's last map, got "
                f"{list(resolutions)}, of which {side} is less than the {cell} pixels of a cell "
                f"of {describe_branch(branch, branch.img_size)}"
            )


def num_params(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def describe_branch(branch: Branch, side: int) -> str:
    """A branch in a few words, for tables."""
    channels = list(
        dict.fromkeys(branch.channels_after(block) for block in range(branch.num_blocks))
    )
    widths = "/".join(str(width) for width in channels)
    return f"{type(branch).__name__} at {side} px, {branch.num_blocks} blocks of {widths} channels"


def has_class_row(branch: ViTBranch) -> bool:
    """Tells whether the reference's position table for a branch has a row for a class token."""
    return official_family(branch) == "InternViT6B"
