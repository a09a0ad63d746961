"""Puts the parts of a PIIP network together from its branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.feature_maps import STRIDES, FeatureMaps, StageFeatureMaps
from piip_d2.modeling.backbone.interaction import build_interactions
from piip_d2.modeling.backbone.merge import (
    BranchMerge,
    LightBranchMerge,
    SingleConvBranchMerge,
    UnmergedBranch,
)
from piip_d2.modeling.backbone.network import PIIPNetwork, check_block_indexes

_MERGES: dict[str, Callable[..., Any]] = {
    "conv": BranchMerge,
    "single_conv": SingleConvBranchMerge,
    "light": LightBranchMerge,
    "none": UnmergedBranch,
}


def build_network(branches: Sequence[Branch], **options: Any) -> PIIPNetwork:
    """Builds a PIIP network from its branches.

    Args:
        branches: Largest resolution first, as one reads a pyramid: (Tiny, Small, Base).
        **options: Arguments of :func:`build_network_parts`.

    Returns:
        The network.

    Raises:
        ValueError: If the order is wrong or numbers do not fit together.
    """
    return PIIPNetwork(**build_network_parts(branches, **options))


def build_network_parts(
    branches: Sequence[Branch],
    *,
    num_interactions: int = 12,
    interaction_block_indexes: Sequence[Sequence[int]] | None = None,
    merge: str = "conv",
    merge_dim: int | None = None,
    merged_branches: Sequence[int] | None = None,
    out_interactions: Sequence[int] | None = None,
    out_features: Sequence[str] = tuple(STRIDES),
    feature_norm: str = "group",
    use_act_checkpoint: bool | str = False,
    **interaction_options: Any,
) -> dict[str, Any]:
    """Builds all parts of a PIIP network around its branches.

    Args:
        branches: Largest resolution first.
        num_interactions: How often the branches exchange features, from 0 to the blocks of the
            shallowest branch. The blocks of every branch are split as evenly as possible, earlier
            stretches being the shorter ones.
        interaction_block_indexes: Instead of an even split: per branch, largest resolution first,
            the last block before each interaction.
        merge: ``"conv"`` for :class:`BranchMerge`, ``"single_conv"`` for
            :class:`SingleConvBranchMerge`, ``"light"`` for :class:`LightBranchMerge`, ``"none"``
            for one branch alone.
        merge_dim: Channels of the merged map; None takes those of the lowest resolution.
        merged_branches: The branches that are merged, by place in ``branches``; None for all.
        out_interactions: Interactions behind which branches are merged too, each merge making a
            feature map, as in the released convolutional models; None for the last merge alone.
        out_features: Names of the feature maps, see :class:`FeatureMaps`.
        feature_norm: See :class:`FeatureMaps`.
        use_act_checkpoint: What the interactions recompute, see :class:`PIIPNetwork`.
        **interaction_options: Arguments of :func:`build_interactions`.

    Returns:
        The arguments of :class:`PIIPNetwork`.

    Raises:
        ValueError: If the order is wrong or numbers do not fit together.
    """
    ascending = _ascending(branches)
    indexes = _block_indexes(ascending, num_interactions, interaction_block_indexes)
    stages = [list(blocks) for blocks in zip(*indexes, strict=True)]
    dims = [_dims(ascending, blocks) for blocks in stages]
    outputs = _output_interactions(out_interactions, len(stages))
    merge_points = [stages[index] for index in outputs]
    merge_points.append([branch.num_blocks - 1 for branch in ascending])
    merges = _merges(ascending, merge_points, merge, merge_dim, merged_branches)
    strides = [ascending[-1].stride_after(blocks[-1]) for blocks in merge_points]
    return {
        "branches": ascending,
        "interaction_block_indexes": indexes,
        "interactions": build_interactions(dims, **interaction_options),
        "merge": merges[-1],
        "stage_merges": dict(zip(outputs, merges[:-1], strict=True)),
        "feature_maps": _feature_maps(merges, strides, out_features, feature_norm),
        "use_act_checkpoint": use_act_checkpoint,
    }


def _ascending(branches: Sequence[Branch]) -> list[Branch]:
    if not branches:
        raise ValueError("a PIIP needs at least one branch, got none")
    sizes = [branch.img_size for branch in branches]
    if sizes != sorted(sizes, reverse=True):
        raise ValueError(
            f"branches must be given largest resolution first, got img_size {sizes}; "
            "reverse the list"
        )
    return list(branches)[::-1]


def _block_indexes(
    ascending: Sequence[Branch], num_interactions: int, given: Sequence[Sequence[int]] | None
) -> list[list[int]]:
    if given is None:
        return [_even_split(branch, num_interactions) for branch in ascending]
    indexes = [list(block_indexes) for block_indexes in given][::-1]
    check_block_indexes(ascending, indexes, len(indexes[-1]) if indexes else 0)
    return indexes


def _dims(ascending: Sequence[Branch], blocks: Sequence[int]) -> list[int]:
    return [branch.channels_after(block) for branch, block in zip(ascending, blocks, strict=True)]


def _merges(
    ascending: Sequence[Branch],
    merge_points: Sequence[Sequence[int]],
    kind: str,
    out_dim: int | None,
    merged_branches: Sequence[int] | None,
) -> list[Any]:
    if kind not in _MERGES:
        raise ValueError(f"merge must be one of {sorted(_MERGES)}, got {kind!r}")
    merged = None
    if merged_branches is not None:
        if not set(merged_branches) <= set(range(len(ascending))):
            raise ValueError(
                f"merged_branches must be places in the list of branches, 0 to "
                f"{len(ascending) - 1}, got {list(merged_branches)}"
            )
        merged = [len(ascending) - 1 - number for number in merged_branches]
    return [
        _MERGES[kind](_dims(ascending, blocks), out_dim=out_dim, merged=merged)
        for blocks in merge_points
    ]


def _output_interactions(given: Sequence[int] | None, num_interactions: int) -> list[int]:
    outputs = sorted(set(given or ()))
    if outputs != list(given or ()) or not set(outputs) <= set(range(num_interactions)):
        raise ValueError(
            f"out_interactions must be numbers of the {num_interactions} interactions, from 0 on "
            f"and ascending; got {list(given or ())}"
        )
    return outputs


def _feature_maps(
    merges: Sequence[Any], strides: Sequence[int], out_features: Sequence[str], norm: str
) -> FeatureMaps | StageFeatureMaps:
    widths = [merge.out_dim for merge in merges]
    if len(merges) > 1:
        return StageFeatureMaps(widths, strides, out_features, norm)
    return FeatureMaps(widths[0], strides[0], out_features, norm)


def _even_split(branch: Branch, num_interactions: int) -> list[int]:
    if not 0 <= num_interactions <= branch.num_blocks:
        raise ValueError(
            f"num_interactions must be from 0 to {branch.num_blocks}, the blocks of the branch "
            f"at {branch.img_size} pixels; got {num_interactions}"
        )
    if num_interactions == 0:
        return []
    length, longer = divmod(branch.num_blocks, num_interactions)
    stretches = [length] * (num_interactions - longer) + [length + 1] * longer
    return [end - 1 for end in accumulate(stretches)]
