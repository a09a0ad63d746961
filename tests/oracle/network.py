"""The released backbones: pyramids of branches, and single networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from tests.oracle import merging
from tests.oracle.branches import make_branch
from tests.oracle.convnext import ConvNeXt
from tests.oracle.interactions import exchange, unit_shapes
from tests.oracle.named_layers import Shapes, Weights, rescale

_NUM_BRANCHES = {"PIIPTwoBranch": 2, "PIIPThreeBranch": 3, "PIIPFourBranch": 4}
_OPTIONS: dict[str, Any] = {
    "n_points": 4,
    "deform_num_heads": 6,
    "cffn_ratio": 0.25,
    "deform_ratio": 1.0,
    "is_dino": False,
    "interaction_proj": True,
    "interact_attn_type": "normal",
    "norm_layer": "layer",
    "with_simple_fpn": True,
    "out_interaction_indexes": (),
}


@dataclass
class Computed:
    """What a network makes of images, all maps (B, C, H, W).

    Args:
        outputs: The feature maps, finest first.
        intermediates: One map per branch by the name of the point where it was seen.
    """

    outputs: list[Tensor]
    intermediates: dict[str, list[Tensor]] = field(default_factory=dict)


class Network(Protocol):
    """A backbone without weights of its own."""

    def shapes(self) -> Shapes:
        """Shapes of all weights by name."""

    def compute(self, weights: Weights, images: Tensor) -> Computed:
        """Computes everything from images (B, 3, h, w)."""


def make_network(
    config: Mapping[str, Any],
    *,
    convnext_sizes: Mapping[str, Any] | None = None,
    as_released: bool = False,
) -> Network:
    """Makes the network that a configuration describes.

    Args:
        config: The arguments of the released class.
        convnext_sizes: Dicts of ``hidden_sizes`` and ``depths`` by what ``pretrained`` says.
        as_released: Whether a fourth branch is the third's network once more.

    Returns:
        The network, which has no weights of its own.
    """
    if config["type"] in _NUM_BRANCHES:
        return Pyramid(config, convnext_sizes or {}, as_released)
    return SingleNetwork(config, convnext_sizes or {})


class Pyramid:
    """Two to four branches, which see images of rising size and exchange what they know."""

    def __init__(
        self, config: Mapping[str, Any], convnext_sizes: Mapping[str, Any], as_released: bool
    ) -> None:
        self.options = {**_OPTIONS, **config}
        numbers = range(1, _NUM_BRANCHES[config["type"]] + 1)
        described = [config[f"branch{number}"] for number in numbers]
        sizes = [branch["real_size"] for branch in described]
        self.scales = [size / sizes[-1] for size in sizes]
        self.ranges = [branch["interaction_indexes"] for branch in described]
        self.num_interactions = len(self.ranges[0])
        if as_released and len(described) == 4:
            described[3] = described[2]
        self.branches = [
            make_branch(branch, f"branch{number}.", convnext_sizes)
            for number, branch in zip(numbers, described, strict=True)
        ]

    def shapes(self) -> Shapes:
        shapes: Shapes = {}
        for branch in self.branches:
            shapes |= branch.shapes()
        for interaction in range(self.num_interactions):
            widths = self._widths(interaction)
            for low in range(len(widths) - 1):
                name = _unit_name(interaction, low)
                shapes |= unit_shapes(name, widths[low], widths[low + 1], self.options)
        last = self._widths(self.num_interactions - 1)
        if self.options["with_simple_fpn"]:
            shapes |= merging.double_merge_shapes(last)
            # The class for three branches has the finest map's layers even where nothing uses them.
            if len(last) == 3 or not self.options["is_dino"]:
                shapes |= merging.finest_shapes("fpn1", last[0])
            return shapes | merging.finer_shapes("fpn2", last[0])
        merged_widths = []
        for interaction in self.options["out_interaction_indexes"]:
            widths = self._widths(interaction)
            shapes |= merging.single_merge_shapes(widths, interaction)
            merged_widths.append(widths[0])
        shapes |= merging.single_merge_shapes(last, None)
        if not isinstance(self.branches[-1], ConvNeXt):
            shapes |= merging.finest_shapes("fpn1", merged_widths[0])
            shapes |= merging.finer_shapes("fpn2", merged_widths[1])
        return shapes

    def compute(self, weights: Weights, images: Tensor) -> Computed:
        channels_last = images.permute(0, 2, 3, 1)
        maps = [
            branch.embed(weights, rescale(channels_last, scale) if scale < 1 else channels_last)
            for branch, scale in zip(self.branches, self.scales, strict=True)
        ]
        seen = {"embed": list(maps)}
        merged = []
        for interaction in range(self.num_interactions):
            for number, branch in enumerate(self.branches):
                first, last = self.ranges[number][interaction]
                for block in range(first, last + 1):
                    maps[number] = branch.run_block(weights, maps[number], block)
            seen.setdefault("pre", list(maps))
            # The pair of the largest images comes first, and the next pair sees its result.
            for low in reversed(range(len(maps) - 1)):
                maps[low], maps[low + 1] = exchange(
                    weights, _unit_name(interaction, low), maps[low], maps[low + 1], self.options
                )
            seen.setdefault("post", list(maps))
            if not self.options["with_simple_fpn"] and (
                interaction in self.options["out_interaction_indexes"]
            ):
                merged.append(merging.single_merge(weights, maps, interaction))
        seen["final"] = list(maps)
        outputs = self._outputs(weights, maps, merged)
        return Computed(
            _channels_first(outputs),
            {point: _channels_first(features) for point, features in seen.items()},
        )

    def _outputs(self, weights: Weights, maps: list[Tensor], merged: list[Tensor]) -> list[Tensor]:
        if self.options["with_simple_fpn"]:
            merged = [merging.double_merge(weights, maps)] * 4
        else:
            merged = [*merged, merging.single_merge(weights, maps, None)]
            if isinstance(self.branches[-1], ConvNeXt):
                return merged
        with_finest = not self.options["is_dino"]
        return merging.feature_maps(weights, merged, "fpn", by_group=True, with_finest=with_finest)

    def _widths(self, interaction: int) -> list[int]:
        return [
            branch.width_after(ranges[interaction][-1])
            for branch, ranges in zip(self.branches, self.ranges, strict=True)
        ]


class SingleNetwork:
    """A single network with feature maps of its own: stages of a ConvNeXt, else made from one."""

    def __init__(self, config: Mapping[str, Any], convnext_sizes: Mapping[str, Any]) -> None:
        self.branch = make_branch(config, "", convnext_sizes)

    def shapes(self) -> Shapes:
        shapes = self.branch.shapes()
        if isinstance(self.branch, ConvNeXt):
            return shapes
        width = self.branch.width_after(self.branch.num_blocks - 1)
        return shapes | merging.finest_shapes("up1", width) | merging.finer_shapes("up2", width)

    def compute(self, weights: Weights, images: Tensor) -> Computed:
        features = self.branch.embed(weights, images.permute(0, 2, 3, 1))
        stages = []
        for block in range(self.branch.num_blocks):
            features = self.branch.run_block(weights, features, block)
            if isinstance(self.branch, ConvNeXt) and self.branch.ends_stage(block):
                stages.append(features)
        if not stages:
            stages = merging.feature_maps(weights, [features] * 4, "up", by_group=False)
        return Computed(_channels_first(stages))


def _unit_name(interaction: int, low: int) -> str:
    return f"interactions.{interaction}.interaction_units_{low + 1}{low + 2}"


def _channels_first(maps: list[Tensor]) -> list[Tensor]:
    return [features.permute(0, 3, 1, 2) for features in maps]
