"""Puts the parts of a PIIP network together from its branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.feature_maps import STRIDES, FeatureMaps
from piip_d2.modeling.backbone.interaction import build_interactions
from piip_d2.modeling.backbone.merge import BranchMerge, LightBranchMerge
from piip_d2.modeling.backbone.network import PIIPNetwork

_MERGES: dict[str, type[BranchMerge] | type[LightBranchMerge]] = {
    "conv": BranchMerge,
    "light": LightBranchMerge,
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
    out_features: Sequence[str] = tuple(STRIDES),
    use_act_checkpoint: bool = False,
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
        merge: ``"conv"`` for :class:`BranchMerge`, ``"light"`` for :class:`LightBranchMerge`.
        out_features: Names of the feature maps, see :class:`FeatureMaps`.
        use_act_checkpoint: Recompute activations of interactions in the backward pass.
        **interaction_options: Arguments of :func:`build_interactions`.

    Returns:
        The arguments of :class:`PIIPNetwork`.

    Raises:
        ValueError: If the order is wrong or numbers do not fit together.
    """
    if merge not in _MERGES:
        raise ValueError(f"merge must be one of {sorted(_MERGES)}, got {merge!r}")
    sizes = [branch.img_size for branch in branches]
    if sizes != sorted(sizes, reverse=True):
        raise ValueError(
            f"branches must be given largest resolution first, got img_size {sizes}; "
            "reverse the list"
        )
    ascending = list(branches)[::-1]
    if interaction_block_indexes is None:
        indexes = [_even_split(branch, num_interactions) for branch in ascending]
    else:
        indexes = [list(block_indexes) for block_indexes in interaction_block_indexes][::-1]
    dims = [
        [branch.channels_after(block) for branch, block in zip(ascending, blocks, strict=True)]
        for blocks in zip(*indexes, strict=True)
    ]
    final_dims = [branch.channels_after(branch.num_blocks - 1) for branch in ascending]
    merged = _MERGES[merge](final_dims)
    stride = ascending[-1].stride_after(ascending[-1].num_blocks - 1) if ascending else 0
    return {
        "branches": ascending,
        "interaction_block_indexes": indexes,
        "interactions": build_interactions(dims, **interaction_options),
        "merge": merged,
        "feature_maps": FeatureMaps(merged.out_dim, stride, out_features),
        "use_act_checkpoint": use_act_checkpoint,
    }


def _even_split(branch: Branch, num_interactions: int) -> list[int]:
    if not 0 <= num_interactions <= branch.num_blocks:
        raise ValueError(
            f"num_interactions must be from 0 to {branch.num_blocks}, the blocks of the branch "
            f"at {branch.img_size} pixels; got {num_interactions}"
        )
    return [
        branch.num_blocks * (number + 1) // num_interactions - 1
        for number in range(num_interactions)
    ]
