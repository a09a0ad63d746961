"""Lets the branches of a pyramid begin from the weights of single pre-trained networks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piip_d2.checkpoint.branch_families import (
    Family,
    count_prefix_tokens,
    find_family,
    is_left_out,
    rename,
)
from piip_d2.checkpoint.resizing import fit_pos_embed, resize_patch_weight, resize_relative_table
from piip_d2.checkpoint.weight_files import read_weights
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.network import PIIPNetwork

logger = logging.getLogger(__name__)

_EXAMPLES = 4
_LAYER_SCALE = ("ls1.gamma", "ls2.gamma")
_BIAS_TABLE = "relative_position_bias_table"


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


def load_branch_weights(
    branch: Branch, source: str | Mapping[str, Tensor], *, name: str = "the branch"
) -> BranchWeightsReport:
    """Loads the weights of a single network into a branch, converted to its names and sizes.

    What kind of network they are of is told by their names: a plain vision transformer (timm,
    DeiT, DeiT III, AugReg, MAE, DINOv2, InternViT), a BEiT, a Uni-Perceiver or a ConvNeXt (timm's,
    its authors' or Hugging Face's names). Position tables, patch embeddings and tables of relative
    positions are stretched to the branch's. Nothing is loaded unless all of the branch is there;
    only a position table and LayerScale that changes nothing may be missing.

    Args:
        branch: The branch.
        source: Tensors by name, or where to read them, see
            :func:`piip_d2.checkpoint.weight_files.read_weights`.
        name: What messages call the branch.

    Returns:
        What was matched, resized, missing and left out; it is also logged.

    Raises:
        ValueError: If the weights cannot be read, or are of another kind or size.
    """
    place = source if isinstance(source, str) else "the given weights"
    weights = read_weights(source) if isinstance(source, str) else dict(source)
    try:
        family, weights = find_family(weights)
        _check_kind(branch, family)
        own = branch.state_dict()
        renamed = rename(weights, family, own)
        fitted, resized = _fit(renamed, own, count_prefix_tokens(weights))
        report = _compare(renamed, fitted, own, family, resized)
    except ValueError as error:
        raise ValueError(f"{place} cannot be loaded into {name}: {error}") from error
    branch.load_state_dict(fitted, strict=False)
    surprising = report.unknown or "pos_embed" in report.missing
    level = logging.WARNING if surprising else logging.INFO
    logger.log(level, "Loaded %s into %s: %s.", place, name, report)
    return report


def load_network_weights(
    model: torch.nn.Module, sources: Sequence[str]
) -> list[BranchWeightsReport | None]:
    """Loads the weights of single networks into the branches of a model's pyramid.

    Args:
        model: A model with one :class:`PIIPNetwork` somewhere inside.
        sources: One for each branch, see :func:`load_branch_weights`, largest resolution first;
            "" leaves a branch as it is.

    Returns:
        One report for each branch, in the same order; None where there was nothing to load.

    Raises:
        ValueError: If there is no pyramid, if the number is not that of its branches, or if some
            weights cannot be read or do not fit.
    """
    networks = [module for module in model.modules() if isinstance(module, PIIPNetwork)]
    if len(networks) != 1:
        raise ValueError(
            f"weights of branches need a model with one PIIP backbone, but a "
            f"{type(model).__name__} has {len(networks)} of them"
        )
    # Inside, resolutions ascend.
    branches = [branch for branch in reversed(networks[0].branches) if isinstance(branch, Branch)]
    if isinstance(sources, str) or len(sources) != len(branches):
        seen = repr(sources) if isinstance(sources, str) else f"{len(sources)}: {list(sources)}"
        raise ValueError(
            f"weights of branches must be a list of {len(branches)}, one for each branch, largest "
            f'resolution first and "" for none, got {seen}'
        )
    return [
        load_branch_weights(branch, source, name=_describe(number, branch)) if source else None
        for number, (branch, source) in enumerate(zip(branches, sources, strict=True), start=1)
    ]


def _describe(number: int, branch: Branch) -> str:
    return f"branch {number} ({type(branch).__name__} at {branch.img_size})"


def _check_kind(branch: Branch, family: Family) -> None:
    if not isinstance(branch, family.branches):
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
    if name.endswith(_BIAS_TABLE) and same_width:
        return resize_relative_table(tensor, (int(wanted.shape[0] ** 0.5) + 1) // 2)
    if _without_ones(tensor) == _without_ones(wanted):
        # A linear layer is a convolution of one cell.
        return tensor.reshape(wanted.shape)
    return tensor


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
    elif name.endswith(_BIAS_TABLE):
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
