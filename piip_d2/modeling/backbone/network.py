"""The PIIP network, free of any detection framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.layers.activation_checkpoint import ActivationCheckpointing
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.feature_maps import FeatureMaps, StageFeatureMaps
from piip_d2.modeling.backbone.interaction import InteractionStage


class PIIPNetwork(ActivationCheckpointing):
    """Parameter-inverted image pyramid network with any number of branches.

    PIIP (https://arxiv.org/abs/2406.04330), section 3: the larger a network, the smaller the image
    it sees. Branches run side by side and exchange features at certain depths; at the end all are
    merged on the grid of the highest resolution.

    Args:
        branches: Ascending in resolution, so descending in size.
        interaction_block_indexes: Per branch, the last block before each interaction. Blocks
            behind the last interaction run after it.
        interactions: The exchanges.
        merge: From one map (B, C, H, W) per branch to one map.
        feature_maps: From the merged map to a dict of maps, finest first; with ``stage_merges``
            from all merged maps, in the order of depth.
        stage_merges: Further merges, by the number of the interaction they follow.
        use_act_checkpoint: What the interactions recompute in the backward pass, see
            :class:`~piip_d2.layers.activation_checkpoint.ActivationCheckpointing`; the branches
            have switches of their own.

    Raises:
        ValueError: If the order is wrong, numbers do not fit together or there is no such way to
            recompute.
    """

    def __init__(
        self,
        *,
        branches: Sequence[Branch],
        interaction_block_indexes: Sequence[Sequence[int]],
        interactions: Sequence[InteractionStage],
        merge: nn.Module,
        feature_maps: FeatureMaps | StageFeatureMaps,
        stage_merges: Mapping[int, nn.Module] | None = None,
        use_act_checkpoint: bool | str = False,
    ) -> None:
        super().__init__()
        _check_order(branches)
        check_block_indexes(branches, interaction_block_indexes, len(interactions))
        self.branches = nn.ModuleList(branches)
        self.interaction_block_indexes = [list(indexes) for indexes in interaction_block_indexes]
        self.interactions = nn.ModuleList(interactions)
        self.merge = merge
        self.feature_maps = feature_maps
        stage_merges = stage_merges or {}
        _check_stage_merges(stage_merges, len(interactions))
        self.stage_merges = nn.ModuleDict(
            {str(index): stage_merges[index] for index in sorted(stage_merges)}
        )
        self.use_act_checkpoint = use_act_checkpoint

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Computes feature maps of images.

        Args:
            images: (B, 3, h, w), normalised and padded.

        Returns:
            One map (B, C, H, W) per name, finest first.

        Raises:
            ValueError: If these are no such images, or if they are too small for a branch.
            TypeError: If they are not of floating point.
        """
        maps = self._embed(images)
        stages = []
        for index in range(len(self.interactions)):
            maps = self._interact(self._run_blocks(maps, index), index)
            if str(index) in self.stage_merges:
                stages.append(self.stage_merges[str(index)](_channels_first(maps)))
        maps = self._run_blocks(maps, len(self.interactions))
        merged = self.merge(_channels_first(maps))
        return self.feature_maps([*stages, merged] if stages else merged)

    def forward_intermediates(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Computes the maps of all branches at the points of interest.

        Args:
            images: (B, 3, h, w), normalised and padded.

        Returns:
            One map (B, C, H, W) per branch, ascending in resolution, under the names ``embed``
            (patches with position), ``pre`` and ``post`` (around the first interaction) and
            ``final`` (what is merged).

        Raises:
            ValueError: If these are no such images, or if they are too small for a branch.
            TypeError: If they are not of floating point.
        """
        maps = self._embed(images)
        seen = {"embed": maps}
        for index in range(len(self.interactions)):
            maps = self._run_blocks(maps, index)
            seen.setdefault("pre", maps)
            maps = self._interact(maps, index)
            seen.setdefault("post", maps)
        maps = self._run_blocks(maps, len(self.interactions))
        # Without interactions the three coincide.
        seen.setdefault("pre", maps)
        seen.setdefault("post", maps)
        seen["final"] = maps
        return {name: _channels_first(maps) for name, maps in seen.items()}

    @property
    def _typed_branches(self) -> list[Branch]:
        return [cast(Branch, branch) for branch in self.branches]

    def _embed(self, images: Tensor) -> list[Tensor]:
        # What is compiled or exported has been run by its owner before.
        if not torch.compiler.is_compiling():
            _check_images(images, self._typed_branches[-1].in_chans)
        return [
            branch.embed(image)
            for branch, image in zip(self._typed_branches, self._image_pyramid(images), strict=True)
        ]

    def _image_pyramid(self, images: Tensor) -> list[Tensor]:
        """Scales the images to every branch's share of the highest resolution, rounding down."""
        full_size = self._typed_branches[-1].img_size
        pyramid = []
        for branch in self._typed_branches:
            scale = branch.img_size / full_size
            stride = branch.stride_after(branch.num_blocks - 1)
            # int() would pin the sizes of an exported program to one number.
            sides = [torch.sym_int(side * scale) for side in images.shape[-2:]]
            if min(sides) < stride:
                raise ValueError(
                    f"images of {tuple(images.shape[-2:])} pixels are too small: "
                    f"{_describe(branch)} sees them at {sides[0]} x {sides[1]}, less than one "
                    f"cell of {stride} pixels; pad or enlarge the images"
                )
            if scale < 1:
                # With the factor instead of the size, samples stay where the exact factor puts
                # them even if the size had to be rounded down: as in the released networks.
                resized = F.interpolate(
                    images, scale_factor=scale, mode="bilinear", align_corners=False
                )
                pyramid.append(resized)
            else:
                pyramid.append(images)
        return pyramid

    def _run_blocks(self, maps: Sequence[Tensor], index: int) -> list[Tensor]:
        """Runs the blocks of all branches between interaction ``index - 1`` and ``index``."""
        return [
            branch.forward_blocks(x, *_block_range(branch, indexes, index))
            for branch, indexes, x in zip(
                self._typed_branches, self.interaction_block_indexes, maps, strict=True
            )
        ]

    def _interact(self, maps: Sequence[Tensor], index: int) -> list[Tensor]:
        updated: list[Tensor] = self.run_checkpointed(self.interactions[index], maps)
        return updated


def check_block_indexes(
    branches: Sequence[Branch], block_indexes: Sequence[Sequence[int]], num_interactions: int
) -> None:
    """Checks where the blocks of every branch are interrupted by interactions.

    Args:
        branches: Ascending in resolution.
        block_indexes: Per branch the last block before each interaction.
        num_interactions: Number of interactions.

    Raises:
        ValueError: If they do not fit together.
    """
    if len(block_indexes) != len(branches):
        raise ValueError(
            f"interaction_block_indexes must have one list for each of the {len(branches)} "
            f"branches, got {len(block_indexes)}"
        )
    for branch, indexes in zip(branches, block_indexes, strict=True):
        if len(indexes) != num_interactions:
            raise ValueError(
                f"all branches must have as many interactions, here {num_interactions}, but "
                f"{_describe(branch)} has {len(indexes)}: {list(indexes)}"
            )
        steps = [-1, *indexes]
        if any(later <= earlier for earlier, later in zip(steps[:-1], steps[1:], strict=True)):
            raise ValueError(
                f"the block indexes of {_describe(branch)} must ascend from 0 on, at least one "
                f"block before each interaction; got {list(indexes)}"
            )
        if steps[-1] >= branch.num_blocks:
            raise ValueError(
                f"{_describe(branch)} has {branch.num_blocks} blocks, so its block indexes must "
                f"stay below that; got {list(indexes)}"
            )


def _describe(branch: Branch) -> str:
    """What messages call a branch: users count from the highest resolution, we from the lowest."""
    return f"the branch at {branch.img_size} pixels"


def _block_range(branch: Branch, indexes: Sequence[int], index: int) -> tuple[int, int]:
    start = indexes[index - 1] + 1 if index > 0 else 0
    stop = indexes[index] + 1 if index < len(indexes) else branch.num_blocks
    return start, stop


def _channels_first(maps: Sequence[Tensor]) -> list[Tensor]:
    return [x.permute(0, 3, 1, 2) for x in maps]


def _check_images(images: Tensor, in_chans: int) -> None:
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != in_chans:
        way_out = "stack images of one size, or pad them to one"
        if len(shape) == 3:
            way_out = "images[None] makes a batch of one"
        elif len(shape) == 4 and shape[-1] == in_chans:
            way_out = "images.permute(0, 3, 1, 2) puts the channels first"
        elif len(shape) == 4:
            way_out = f"branches for {shape[1]} channels say so: branch.in_chans = {shape[1]}"
            if shape[1] == 1:
                grey = f"images.expand(-1, {in_chans}, -1, -1) makes them of grey ones"
                way_out = f"{grey}; {way_out}"
        raise ValueError(f"images must be of shape (B, {in_chans}, h, w), got {shape}; {way_out}")
    if not images.is_floating_point():
        raise TypeError(
            f"images must be of floating point and normalised, got {images.dtype}; convert them by "
            "images.float() and normalise them by the mean and the standard deviation that the "
            "weights were trained with"
        )


def _check_order(branches: Sequence[Branch]) -> None:
    if not branches:
        raise ValueError("a PIIP needs at least one branch, got none")
    sizes = [branch.img_size for branch in branches]
    if sizes != sorted(sizes):
        raise ValueError(
            f"branches must ascend in resolution (smallest image first), got img_size {sizes}"
        )


def _check_stage_merges(merges: Mapping[int, nn.Module], num_interactions: int) -> None:
    unknown = [index for index in merges if not 0 <= index < num_interactions]
    if unknown:
        raise ValueError(
            f"maps can be merged after the interactions 0 to {num_interactions - 1}, got {unknown}"
        )
