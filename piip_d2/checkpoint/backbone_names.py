"""Names of the reference implementation's detection backbones, and ours."""

from __future__ import annotations

import functools
import re

from piip_d2.checkpoint.network_names import HF_CONVNEXT, LAYER_SCALE, UNI_PERCEIVER
from piip_d2.checkpoint.renaming import Pair, Rule, rules_of, turned

MAX_BRANCHES = 4

_PATCHES_AND_BLOCKS: tuple[Pair, ...] = (
    ("pos_embed", "pos_embed"),
    ("patch_embed", "patch_embed"),
    ("blocks.*", "blocks.*"),
)
_SCALED_BLOCKS: tuple[Pair, ...] = (*LAYER_SCALE, *_PATCHES_AND_BLOCKS)
_BRANCHES: dict[str, tuple[Pair, ...]] = {
    "vit_models": _SCALED_BLOCKS,
    "BEiT": _SCALED_BLOCKS,
    "InternViT6B": _PATCHES_AND_BLOCKS,
    "UnifiedBertEncoder": UNI_PERCEIVER,
    "ConvNextHFWrapper": tuple((f"convnext_model.{theirs}", ours) for theirs, ours in HF_CONVNEXT),
}
_UNIT_PARTS: tuple[Pair, ...] = (
    ("proj", "feat_proj"),
    ("injector.ca_gamma", "attn_gamma"),
    ("injector.cffn_gamma", "ffn_gamma"),
    ("injector.query_norm", "query_norm"),
    ("injector.feat_norm", "feat_norm"),
    ("injector.ffn_norm", "ffn_norm"),
    ("injector.ffn.fc1", "ffn.fc1"),
    ("injector.ffn.fc2", "ffn.fc2"),
    ("injector.ffn.dwconv.dwconv", "ffn.dwconv"),
    ("injector.attn.sampling_offsets", "attn.deform.sampling_offsets"),
    ("injector.attn.attention_weights", "attn.deform.attention_weights"),
    ("injector.attn.value_proj", "attn.deform.value_proj"),
    ("injector.attn.output_proj", "attn.deform.output_proj"),
    ("injector.attn.wq", "attn.q_proj"),
    ("injector.attn.wk", "attn.k_proj"),
    ("injector.attn.wv", "attn.v_proj"),
    ("injector.attn.proj", "attn.proj"),
)
_DIRECTIONS: tuple[Pair, ...] = (("branch2to1", "high_to_low"), ("branch1to2", "low_to_high"))

# What the reference stores beside the weights, or creates and never uses.
_UNUSED = re.compile(
    r"(branch\d\.)?(blocks\.\d+\.attn\.relative_position_index"
    r"|convnext_model\.layernorm\.(weight|bias))$"
)


def is_never_used(name: str) -> bool:
    """Tells whether the reference's networks store a tensor of this name without any use."""
    return bool(_UNUSED.match(name))


@functools.cache
def rules_to_ours() -> tuple[Rule, ...]:
    """Returns rules from the reference's names, without a leading ``backbone.``, to ours.

    The families' names differ where they have to, so that no configuration is needed.
    """
    families = dict.fromkeys(pair for pairs in _BRANCHES.values() for pair in pairs)
    branches = [
        pair
        for number in range(1, MAX_BRANCHES + 1)
        for pair in _prefixed(families, f"branch{number}.", f"branches.{number - 1}.")
    ]
    alone = _prefixed(families, "", "branches.0.")
    return tuple(rules_of([*_joined(), *branches, *_maps(single=True), *alone]))


@functools.cache
def rules_to_official(families: tuple[str, ...], *, single: bool) -> tuple[Rule, ...]:
    """Makes rules from our names to the reference's.

    Args:
        families: The reference's class of each branch, lowest resolution first.
        single: Whether the network is one of the reference's without a pyramid.

    Returns:
        Rules for names without a leading ``backbone.``.
    """
    branches: list[Pair] = []
    for index, family in enumerate(families):
        prefix = "" if single else f"branch{index + 1}."
        branches += _prefixed(_BRANCHES[family], prefix, f"branches.{index}.")
    shared = _maps(single=True) if single else _joined()
    return tuple(rules_of(turned([*shared, *branches])))


def _joined() -> list[Pair]:
    """What the networks of several branches have beside the branches."""
    pairs = _maps(single=False)
    for number in range(1, MAX_BRANCHES + 1):
        index = number - 1
        pairs += [
            (f"w{number}", f"merge.weights.{index}"),
            (f"merge_branch{number}", f"merge.projections.{index}"),
            (f"intermediate_merging_*_w{number}", f"stage_merges.*.weights.{index}"),
            (f"intermediate_merging_*_branch{number}", f"stage_merges.*.projections.{index}"),
        ]
    for low in range(1, MAX_BRANCHES):
        for theirs, ours in _DIRECTIONS:
            pairs += _prefixed(
                _UNIT_PARTS,
                f"interactions.*.interaction_units_{low}{low + 1}.{theirs}_",
                f"interactions.*.units.{low - 1}.{ours}.",
            )
    return pairs


def _maps(*, single: bool) -> list[Pair]:
    theirs = "up" if single else "fpn"
    return [(f"{theirs}{level - 1}", f"feature_maps.maps.res{level}") for level in (2, 3)]


def _prefixed(pairs: tuple[Pair, ...] | dict[Pair, None], theirs: str, ours: str) -> list[Pair]:
    return [(theirs + before, ours + after) for before, after in pairs]
