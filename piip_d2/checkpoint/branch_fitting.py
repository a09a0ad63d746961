"""Brings the weights of a single network under the names and to the sizes of a branch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from piip_d2.checkpoint.branch_families import (
    BIAS_TABLE,
    Family,
    count_prefix_tokens,
    find_family,
    is_left_out,
    rename,
    takes,
)
from piip_d2.checkpoint.resizing import fit_pos_embed, resize_patch_weight, resize_relative_table
from piip_d2.modeling.backbone.branch import Branch

_EXAMPLES = 4
_LAYER_SCALE = ("ls1.gamma", "ls2.gamma")


@dataclass(frozen=True)
class BranchWeightsReport:
    """What became of the weights of a single network.

    Args:
        family: The kind of network they are of.
        matched: Names of the branch's weights that were taken from there.
        resized: What was stretched, with both sizes.
        missing: Names of the branch's weights that stayed as they were.
        dropped: Names of the network's weights that a branch has no use for.
        unknown: Names that the branch has no place for, with what effect is not known.
    """

    family: str
    matched: list[str]
    resized: list[str]
    missing: list[str]
    dropped: list[str]
    unknown: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.matched)} weights of {self.family}"]
        for what, names in (
            ("resized", self.resized),
            ("kept as they were", self.missing),
            ("left out", _tops(self.dropped)),
            ("left out although unknown", _tops(self.unknown)),
        ):
            if names:
                parts.append(f"{what}: {_shown(names)}")
        return "; ".join(parts)


def fit_branch_weights(
    branch: Branch, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], BranchWeightsReport]:
    """Converts the weights of a single network for a branch, which stays as it is.

    Args:
        branch: The branch.
        weights: Tensors by the network's names.

    Returns:
        Those that the branch has a place for, by its names and in its shapes, and what became of
        all of them.

    Raises:
        ValueError: If they are of another kind or size, or if some are not finite.
    """
    family, weights = find_family(weights)
    _check_kind(branch, family)
    own = branch.state_dict()
    renamed = rename(weights, family, own)
    fitted, resized = _fit(renamed, own, count_prefix_tokens(weights))
    report = _compare(renamed, fitted, own, family, resized)
    _check_finite(fitted)
    return fitted, report


def _check_kind(branch: Branch, family: Family) -> None:
    if not takes(branch, family):
        takers = " or ".join(kind.__name__ for kind in family.branches)
        raise ValueError(
            f"they are of {family.description}, for a {takers}, but this is a "
            f"{type(branch).__name__}"
        )


def _fit(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], num_prefix_tokens: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Resizes what can be; returns all that the branch has names for, and what was resized."""
    fitted: dict[str, Tensor] = {}
    resized = []
    for name, wanted in own.items():
        if name not in weights:
            continue
        tensor = weights[name]
        fitted[name] = _fit_one(name, tensor, wanted, num_prefix_tokens)
        if _side(name, tensor) != _side(name, fitted[name]):
            resized.append(f"{name} {_side(name, tensor)} -> {_side(name, fitted[name])}")
    return fitted, resized


def _fit_one(name: str, tensor: Tensor, wanted: Tensor, num_prefix_tokens: int) -> Tensor:
    same_width = tensor.dim() == wanted.dim() and tensor.shape[-1] == wanted.shape[-1]
    if name == "pos_embed" and same_width:
        return fit_pos_embed(tensor, num_prefix_tokens, wanted.shape[1])
    if name.endswith("patch_embed.proj.weight") and tensor.shape[:2] == wanted.shape[:2]:
        return resize_patch_weight(tensor, wanted.shape[-1])
    if name.endswith(BIAS_TABLE) and same_width:
        return resize_relative_table(tensor, (int(wanted.shape[0] ** 0.5) + 1) // 2)
    if _without_ones(tensor) == _without_ones(wanted):
        # A linear layer is a convolution of one cell.
        return tensor.reshape(wanted.shape)
    return tensor


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(
            f"{len(broken)} of its weights hold NaN or infinite numbers, the first is {broken[0]}; "
            "give a file of a training that went well"
        )


def _compare(
    renamed: Mapping[str, Tensor],
    fitted: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    family: Family,
    resized: list[str],
) -> BranchWeightsReport:
    misshapen = [
        f"{name} ({_sizes(tensor)} there, {_sizes(own[name])} here)"
        for name, tensor in fitted.items()
        if tensor.shape != own[name].shape
    ]
    missing = [name for name in own if name not in fitted]
    surplus = [name for name in renamed if name not in own]
    dropped = [name for name in surplus if is_left_out(name)]
    unknown = [name for name in surplus if not is_left_out(name)]
    parts = {name.partition(".")[0] for name in own}
    problems = (
        ("of another size", misshapen),
        ("missing there", [name for name in missing if not _may_be_missing(name, own[name])]),
        ("not in the branch", [name for name in unknown if name.partition(".")[0] in parts]),
    )
    if any(names for _, names in problems):
        said = "; ".join(
            f"{len(names)} are {what}: {_shown(names)}" for what, names in problems if names
        )
        raise ValueError(
            f"of {len(own)} weights of a {family.description.partition(' ')[2]} {said}. Give those "
            "of a network of the same size and kind, or build the branch like it"
        )
    return BranchWeightsReport(family.description, list(fitted), resized, missing, dropped, unknown)


def _may_be_missing(name: str, tensor: Tensor) -> bool:
    """Tells whether a branch is what the weights say without this one."""
    neutral = name.endswith(_LAYER_SCALE) and bool((tensor == 1).all())
    # As in the reference implementation; but this is worth a warning.
    return neutral or name == "pos_embed"


def _side(name: str, tensor: Tensor) -> str:
    """The size that resizing changes, for messages; "" for what is not resized."""
    if name == "pos_embed":
        # Class tokens' rows are no cells.
        side = int(tensor.shape[1] ** 0.5)
    elif name.endswith(BIAS_TABLE):
        side = int(tensor.shape[0] ** 0.5)
    elif name.endswith("patch_embed.proj.weight"):
        side = tensor.shape[-1]
    else:
        return ""
    return f"{side}x{side}"


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _without_ones(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _tops(names: Iterable[str]) -> list[str]:
    """The parts that names belong to, but for those within blocks."""
    return [name if name.startswith("blocks.") else name.partition(".")[0] for name in names]


def _shown(names: Iterable[str]) -> str:
    """Names with the numbers of blocks left out, each once, and not too many."""
    groups = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", name) for name in names))
    more = f", and {len(groups) - _EXAMPLES} more" if len(groups) > _EXAMPLES else ""
    return ", ".join(groups[:_EXAMPLES]) + more
